//! Kernels with arguments of the sizes that training and sampling have: what each reads and writes is known, so what it
//! moves can be held against the least that it must.

/// An argument, in single precision. Buffers are as large as what a kernel reads or writes of them.
#[derive(Clone, Debug)]
pub enum Argument {
    /// Numbers in (0, 1) that are read.
    In(usize),
    /// Numbers of which some are read, and some written.
    Part {
        len: usize,
        read: usize,
        written: usize,
    },
    /// Integers that are read.
    Words(Vec<u32>),
    /// Numbers in double precision that are read.
    Doubles(Vec<f64>),
    /// Numbers that are written.
    Out(usize),
    /// The same in double precision.
    OutDoubles(usize),
    /// Numbers that are read and written.
    Changed(usize),
    /// The same in double precision.
    ChangedDoubles(Vec<f64>),
    /// An adjoint that is set.
    Adjoint(usize),
    /// A struct with an array of the addresses of these.
    Array(Vec<Argument>),
    Real(f32),
    Double(f64),
    Int(usize),
    Size(usize),
}
use Argument::{
    Adjoint, Array, Changed, ChangedDoubles, Double, Doubles, In, Int, Out, OutDoubles, Part, Real, Size, Words,
};

/// Bytes that memory moves at least.
const SECTOR: usize = 32;

impl Argument {
    /// Bytes that cannot but be moved.
    pub fn bytes(&self) -> usize {
        let sectors = |bytes: usize| bytes.next_multiple_of(SECTOR);
        match self {
            In(n) | Out(n) | Adjoint(n) => sectors(4 * n),
            Changed(n) => 2 * sectors(4 * n),
            Part { read, written, .. } => sectors(4 * read) + sectors(4 * written),
            Words(words) => sectors(4 * words.len()),
            Doubles(numbers) => sectors(8 * numbers.len()),
            OutDoubles(n) => sectors(8 * n),
            ChangedDoubles(numbers) => 2 * sectors(8 * numbers.len()),
            Array(arguments) => arguments.iter().map(Self::bytes).sum(),
            Real(_) | Double(_) | Int(_) | Size(_) => 0,
        }
    }
}

/// A launch.
#[derive(Clone, Debug)]
pub struct Case {
    pub file: &'static str,
    pub kernel: &'static str,
    /// What tells it from other cases of the kernel.
    pub what: &'static str,
    /// Along x and y.
    pub blocks: [usize; 2],
    pub threads: usize,
    pub arguments: Vec<Argument>,
}

impl Case {
    /// The kernel, and what tells the case from others.
    pub fn name(&self) -> String {
        [self.kernel, self.what].join(" ").trim_end().to_string()
    }

    /// The least that it must move: each input once, each output once.
    pub fn floor(&self) -> usize {
        self.arguments.iter().map(Argument::bytes).sum()
    }
}

/// So many blocks of 256 threads.
fn blocks(file: &'static str, kernel: &'static str, blocks: [usize; 2], arguments: Vec<Argument>) -> Case {
    Case { file, kernel, blocks, threads: 256, arguments, what: "" }
}

/// So many threads in all, in blocks of 256.
fn case(file: &'static str, kernel: &'static str, threads: usize, arguments: Vec<Argument>) -> Case {
    blocks(file, kernel, [threads.div_ceil(256), 1], arguments)
}

/// Threads of a team for each row, as `Team` in `kernels/team.cuh`.
fn team(rows: usize, cols: usize) -> usize {
    rows * cols.next_power_of_two().min(32)
}

/// All cases over so many rows of 16 columns, of which couplings transform every second one.
pub fn cases(rows: usize) -> Vec<Case> {
    [
        elementwise(rows),
        columns(rows),
        rowwise(rows),
        couplings(rows),
        linear_maps(rows),
        densities(rows),
        mixtures(rows),
        sampling(rows),
        training(rows),
        network(rows, true),
        network(rows, false),
        wide_layer(rows),
    ]
    .concat()
}

const WIDTH: usize = 16;

fn elementwise(rows: usize) -> Vec<Case> {
    let n = rows * WIDTH;
    let [count, width] = [Size(n), Int(WIDTH)];
    vec![
        case("plan", "copy", n, vec![In(n), Adjoint(n), count.clone()]),
        case("plan", "fill", n, vec![Adjoint(n), Real(1.0), count.clone()]),
        case("constant", "constant_forward", n, vec![Out(n), Real(1.0), count.clone()]),
        case("affine", "affine_forward", n, vec![In(n), Out(n), Real(2.0), Real(1.0), count.clone()]),
        case("affine", "affine_backward", n, vec![In(n), Adjoint(n), Real(2.0), count.clone()]),
        case("arithmetic", "arithmetic_forward", n, {
            vec![In(n), In(n), Out(n), Int(2), width.clone(), width.clone(), width.clone(), count.clone()]
        }),
        case("elementwise", "elementwise_forward", n, vec![In(n), Out(n), Out(n), Int(4), count.clone()]),
        case("elementwise", "elementwise_backward", n, vec![In(n), In(n), Adjoint(n), count.clone()]),
        case("combine", "combine_forward", n, {
            vec![In(n), In(rows * 2), Out(n), Int(0), Int(2), width.clone(), count.clone()]
        }),
        case("fourier", "fourier_forward", rows * 16, vec![In(rows), In(16), Out(rows * 32), Int(16), Size(rows)]),
        case("nested", "unit_rows", n, vec![Out(n), Int(3), width.clone(), count.clone()]),
        case("plan", "repeat", n, vec![In(WIDTH), Out(n), width, count]),
    ]
}

/// Of which columns are chosen or set side by side.
fn columns(rows: usize) -> Vec<Case> {
    let (n, chosen) = (rows * WIDTH, (0..WIDTH as u32).rev().collect::<Vec<_>>());
    let side_by_side = || [Int(WIDTH), Int(0), Int(WIDTH), Size(n)];
    let selection = || [Words(chosen.clone()), Int(WIDTH), Int(WIDTH), Size(n)];
    let with = |values: [Argument; 2], shape: [Argument; 4]| [values.to_vec(), shape.to_vec()].concat();
    let index = Words((0..rows as u32).rev().collect());
    let apart = Part { len: n, read: rows * SECTOR / 4, written: 0 };
    vec![
        case("concat", "concat_forward", n, with([In(n), Out(n)], side_by_side())),
        case("concat", "concat_backward", n, with([In(n), Adjoint(n)], side_by_side())),
        case("select", "select_forward", n, with([In(n), Out(n)], selection())),
        case("select", "select_backward", n, with([In(n), Adjoint(n)], selection())),
        case("plan", "gather", n, vec![In(n), index, Out(n), Int(WIDTH), Size(n)]),
        case("nested", "add_column", rows, vec![apart, Changed(rows), Int(3), Int(WIDTH), Size(rows)]),
    ]
}

fn rowwise(rows: usize) -> Vec<Case> {
    let (n, lanes) = (rows * WIDTH, team(rows, WIDTH));
    let shape = || [Int(WIDTH), Size(rows)];
    let with = |arguments: Vec<Argument>| [arguments, shape().to_vec()].concat();
    let arithmetic = |width: usize, to: usize| {
        vec![In(n), In(n), Adjoint(to), Real(1.0), Int(WIDTH), Int(width), Int(WIDTH), Size(rows)]
    };
    vec![
        case("arithmetic", "arithmetic_backward", lanes, arithmetic(WIDTH, n)),
        Case { what: "one column", ..case("arithmetic", "arithmetic_backward", lanes, arithmetic(1, rows)) },
        case("reduce", "sum_cols_forward", lanes, with(vec![In(n), Out(rows), Real(1.0)])),
        case("reduce", "sum_cols_backward", n, vec![In(rows), Adjoint(n), Real(1.0), Int(WIDTH), Size(n)]),
        case("fourier", "fourier_backward", lanes, {
            vec![In(2 * n), In(2 * n), In(WIDTH), Adjoint(rows), Int(WIDTH), Size(rows)]
        }),
        case("combine", "combine_backward", lanes, {
            vec![In(n), In(n), In(rows), Adjoint(n), Adjoint(rows), Int(0), Int(1), Int(WIDTH), Size(rows)]
        }),
        case("normal_log_density", "normal_log_density_forward", lanes, with(vec![In(n), Out(rows), Real(1.0)])),
        case("normal_log_density", "normal_log_density_backward", n, {
            vec![In(rows), In(n), Adjoint(n), Int(WIDTH), Size(n)]
        }),
    ]
}

/// Of which every second column is transformed.
fn couplings(rows: usize) -> Vec<Case> {
    let (n, b, lanes) = (rows * WIDTH, WIDTH / 2, team(rows, WIDTH));
    let (m, place) = (rows * b, Words((0..WIDTH as u32).map(|c| if c % 2 == 1 { c / 2 } else { u32::MAX }).collect()));
    let couple = |arguments: Vec<Argument>| [arguments, vec![Int(b), Int(WIDTH), Size(rows)]].concat();
    let bins = 8;
    let spline = || vec![Int(bins), Real(5.0), Real(0.01), Real(9.92), Real(0.01), Real(0.5), Int(0)];
    let (raw, saved) = (m * (3 * bins - 1), m * (2 * bins + 6));
    vec![
        case("coupling", "coupling_forward", lanes, {
            couple(vec![In(n), In(2 * m), In(rows), Out(n), Out(rows), Out(2 * m), place.clone(), Real(2.0)])
        }),
        case("coupling", "coupling_backward", lanes, {
            let adjoints = [Adjoint(n), Adjoint(2 * m), Adjoint(rows), Int(0)];
            // Of the values, those that were transformed.
            couple([vec![In(n), In(rows), In(n), In(2 * m), place.clone()], adjoints.to_vec()].concat())
        }),
        case("spline_coupling", "spline_coupling_forward", lanes, {
            let values = vec![In(n), In(raw), In(rows), Out(n), Out(rows), Out(saved), place.clone()];
            couple([values, spline()].concat())
        }),
        case("spline_coupling", "spline_coupling_backward", lanes, {
            let values = vec![In(n), In(rows), In(saved), place, Adjoint(n), Adjoint(raw), Adjoint(rows)];
            couple([values, spline()].concat())
        }),
    ]
}

/// Those of flows, whose weights are small.
fn linear_maps(rows: usize) -> Vec<Case> {
    let (n, lanes, weight) = (rows * WIDTH, team(rows, WIDTH), In(WIDTH * WIDTH));
    let shape = || [Real(1.0), Int(WIDTH), Size(rows)];
    let with = |arguments: Vec<Argument>| [arguments, shape().to_vec()].concat();
    // Four rows for each team, one copy of the gradient for 128 rows.
    let (few, copies) = (team(rows.div_ceil(4), WIDTH), rows.div_ceil(128));
    let gradient = Changed(copies * WIDTH * WIDTH);
    vec![
        case("scale_shift", "scale_shift_forward", lanes, {
            with(vec![In(n), In(rows), In(WIDTH), In(WIDTH), Out(n), Out(rows)])
        }),
        case("scale_shift", "scale_shift_backward", lanes, {
            with(vec![In(n), In(rows), In(WIDTH), Adjoint(n), Adjoint(rows)])
        }),
        blocks("scale_shift", "scale_shift_gradient", [1, copies], {
            let gradient = Changed(copies * WIDTH);
            let gradients = [gradient.clone(), gradient, Size(WIDTH), Real(1.0), Int(rows), Int(WIDTH)];
            [vec![In(n), In(rows), In(n), In(WIDTH)], gradients.to_vec()].concat()
        }),
        case("lu_linear", "lu_linear_forward", few, {
            with(vec![In(n), In(rows), weight.clone(), Out(n), Out(rows), Out(n)])
        }),
        case("lu_linear", "lu_linear_backward", few, {
            with(vec![In(n), In(rows), weight.clone(), Out(n), Adjoint(n), Adjoint(rows)])
        }),
        blocks("lu_linear", "lu_linear_gradient", [1, copies], {
            let values = [vec![In(n); 4], vec![In(rows), weight, gradient]].concat();
            [values, vec![Size(WIDTH * WIDTH), Real(1.0), Int(rows), Int(WIDTH)]].concat()
        }),
    ]
}

fn densities(rows: usize) -> Vec<Case> {
    let (n, lanes) = (rows * WIDTH, team(rows, WIDTH));
    let with = |arguments: Vec<Argument>| [arguments, vec![Int(WIDTH), Int(WIDTH), Size(rows)]].concat();
    vec![
        case("gaussian_kl", "gaussian_kl_forward", lanes, with(vec![In(n), In(n), Out(rows), Out(n)])),
        case("gaussian_kl", "gaussian_kl_backward", lanes, {
            with(vec![In(rows), In(n), In(n), Adjoint(n), Adjoint(n)])
        }),
        case("gaussian_log_density", "gaussian_log_density_forward", lanes, {
            with(vec![In(n), In(n), In(n), Out(rows), Out(2 * n), Real(1.0)])
        }),
        case("gaussian_log_density", "gaussian_log_density_backward", lanes, {
            with(vec![In(rows), In(2 * n), Adjoint(n), Adjoint(n), Adjoint(n)])
        }),
        case("gaussian_sample", "gaussian_sample_forward", lanes, with(vec![In(n), In(n), In(n), Out(n), Out(n)])),
        case("gaussian_sample", "gaussian_sample_backward", lanes, {
            with(vec![In(n), In(n), In(n), Adjoint(n), Adjoint(n), Adjoint(n)])
        }),
    ]
}

/// Eight components in four dimensions.
fn mixtures(rows: usize) -> Vec<Case> {
    let (k, d) = (8, 4);
    let saved = rows * k * (2 + 3 * d);
    let of = |what: &'static str, full: usize| {
        let width = k * (1 + 2 * d + full * d * (d - 1) / 2);
        let raw = rows * width;
        let with = |values: Vec<Argument>| [values, vec![Int(k), Int(d), Int(full), Int(width), Size(rows)]].concat();
        // The weights; of one of the components a sector each of means and of scales, and of the factor one or two.
        let drawn = Part { len: raw, read: rows * (k + 16 + 12 * full), written: 0 };
        let forward = with(vec![In(rows * d), In(raw), Out(rows), Out(saved), Real(1.0)]);
        // The means, and the factor.
        let known = Part { len: raw, read: rows * (width - k * (1 + d)), written: 0 };
        let backward = with(vec![In(rows * d), known, In(rows), In(saved), Adjoint(rows * d), Adjoint(raw)]);
        let sample = with(vec![drawn, In(rows * d), In(rows), Out(rows * d), Out(rows * k)]);
        [
            Case { what, ..case("mixture_log_density", "mixture_log_density_forward", 32 * rows, forward) },
            Case { what, ..case("mixture_log_density", "mixture_log_density_backward", 32 * rows, backward) },
            Case { what, ..case("mixture_sample", "mixture_sample_forward", 32 * rows, sample) },
        ]
    };
    [of("diagonal", 0), of("full", 1)].concat()
}

fn sampling(rows: usize) -> Vec<Case> {
    let (n, d) = (rows * WIDTH, WIDTH / 2 - 1);
    let schedule = Doubles(vec![1.0, 0.1, 20.0, 0.0]);
    // The schedule; EDM's network; uniform times.
    let settings = Doubles(vec![1.0, 0.1, 20.0, 0.0, 2.0, 1.0, 2.0, 0.0, 1e-5, 1.0, 0.0, 0.0]);
    // Rows in a group, first row, step, and a seed, as halves.
    let control = Words(vec![rows as u32, 0, 0, 0, 1, 0, 7, 0]);
    let noise = |uniform| vec![Out(n), control.clone(), Int(3), Int(uniform), Int(WIDTH), Size(rows)];
    vec![
        Case { what: "normal", ..case("plan", "noise", n / 4, noise(0)) },
        Case { what: "uniform", ..case("plan", "noise", n / 4, noise(1)) },
        case("chains", "advance", team(rows, WIDTH), vec![In(n), Out(n), In(rows), Int(WIDTH), Size(rows)]),
        case("hmc", "hmc_trajectory", team(rows, WIDTH), {
            let values = vec![In(n), In(n), In(rows * d), In(rows * d), In(rows), Out(n)];
            [values, vec![Doubles(vec![d as f64]), Size(rows)]].concat()
        }),
        case("hmc", "hmc_adapt", rows, {
            let acceptances = Part { len: n, read: rows * SECTOR / 4, written: 0 };
            let sums = || ChangedDoubles(vec![0.5; rows]);
            let numbers = [0.8, 0.25, 12.0, 2.0, 0.5].map(Double);
            let values = vec![acceptances, Out(rows), sums(), sums()];
            [values, numbers.to_vec(), vec![Int(0), Int(WIDTH), Size(rows)]].concat()
        }),
        case("hmc", "hmc_jump", team(rows, WIDTH), {
            let values = vec![In(n), In(n), In(rows), In(rows), In(rows), Out(n)];
            [values, vec![Doubles(vec![d as f64]), Size(rows)]].concat()
        }),
        case("noise_schedule", "noise_schedule_forward", rows, {
            vec![In(rows), Out(rows), Out(rows), Out(rows), Out(rows), schedule, Size(rows)]
        }),
        case("diffusion", "diffusion_time", rows, vec![In(rows), Out(rows), settings.clone(), Size(rows)]),
        case("diffusion", "diffusion_level", rows, vec![In(rows), Out(11 * rows), settings, Size(rows)]),
    ]
}

/// What a step of training does beside its ops, with as many weights as rows have elements.
fn training(rows: usize) -> Vec<Case> {
    let n = rows * WIDTH;
    let parts = n.div_ceil(256).min(256);
    let step = Doubles(vec![1e-3, 10.0, 0.9, 0.999, 1.1, 1.01, 1e-8, 0.01, 0.99]);
    let weights = [In(n), Changed(n), Changed(n), Changed(n), Changed(n)];
    let one = |kernel, arguments| blocks("optim", kernel, [1, 1], arguments);
    vec![
        blocks("optim", "squares", [parts, 1], vec![In(n), OutDoubles(parts), Size(n)]),
        one("norm", vec![Doubles(vec![1.0; parts]), OutDoubles(1), Int(parts)]),
        Case {
            threads: 32,
            ..one("follow", vec![Doubles(vec![1.0]), Doubles(vec![1.0]), ChangedDoubles(vec![1.0, 1.0, 0.0])])
        },
        case("optim", "adam", n, [weights.to_vec(), vec![step, Doubles(vec![1.0]), Size(n)]].concat()),
        case("plan", "add_lanes", n, vec![In(4 * n), Out(n), Int(4), Size(n)]),
        Case { threads: 1024, ..blocks("plan", "total", [1, 1], vec![In(n), OutDoubles(1), Size(n)]) },
    ]
}

const HIDDEN: usize = 64;

/// A network from 16 columns through two hidden layers of 64 to 16 columns, by tiles of 64 rows or of 16.
fn network(rows: usize, tall: bool) -> Vec<Case> {
    let (what, kept) = (if tall { "64 rows" } else { "16 rows" }, 2 * rows * HIDDEN);
    let shapes = [[WIDTH, HIDDEN], [HIDDEN, HIDDEN], [HIDDEN, WIDTH]];
    products(what, rows, tall, &shapes, 1, kept)
}

/// A layer of 256 columns on as many, whose blocks share the columns.
fn wide_layer(rows: usize) -> Vec<Case> {
    products("256 columns", rows, true, &[[256, 256]], 256 / 64, 0)
}

/// The products of layers, of which those but the last keep so many values, and as many slopes.
fn products(
    what: &'static str,
    rows: usize,
    tall: bool,
    shapes: &[[usize; 2]],
    across: usize,
    kept: usize,
) -> Vec<Case> {
    let (layers, height, copies) = (shapes.len(), if tall { 64 } else { 16 }, rows.div_ceil(128));
    let params = shapes.iter().map(|[depth, cols]| (depth + 1) * cols).sum();
    let [x, y] = [shapes[0][0], shapes[layers - 1][1]].map(|cols| rows * cols);
    let table = Words(layer_table(shapes));
    let last = || [Int(0), Int(layers), Int(rows), Int(usize::from(tall))];
    let product =
        |kernel, grid, arguments: [&[Argument]; 2]| Case { what, ..blocks("linear", kernel, grid, arguments.concat()) };
    let forward = [Array(vec![In(x)]), In(params), table.clone(), Out(y), Out(2 * kept), Int(1)];
    let slopes = Part { len: 2 * kept, read: kept, written: kept };
    let backward = [In(y), In(params), table.clone(), slopes, Array(vec![Out(x)]), Int(0)];
    let gradients = [Array(vec![In(x)]), In(y), In(2 * kept), table, Changed(copies * params)];
    let range = [Size(params), Size(0), Size(params), Int(rows), Int(usize::from(tall))];
    let tiles = shapes.iter().map(|[depth, cols]| depth.div_ceil(height) * cols.div_ceil(64)).sum();
    let grid = [across, rows.div_ceil(height)];
    vec![
        product("linear_forward", grid, [&forward, &last()]),
        product("linear_input_adjoint", grid, [&backward, &last()]),
        product("linear_gradient", [tiles, copies], [&gradients, &range]),
    ]
}

/// `Table` of the kernels: silu on the hidden layers, slopes before values.
fn layer_table(shapes: &[[usize; 2]]) -> Vec<u32> {
    let (mut words, mut weight) = (vec![shapes.len() as u32, 1], 0);
    for (l, &[depth, cols]) in shapes.iter().enumerate() {
        let (bias, slope, last) = (weight + depth * cols, 2 * l * HIDDEN, l + 1 == shapes.len());
        let [f, value, slope] = if last { [0, 0, u32::MAX as usize] } else { [4, slope + HIDDEN, slope] };
        words.extend([depth, cols, f, weight, bias, value, slope].map(|n| n as u32));
        weight = bias + cols;
    }
    words
}
