//! Kernels with arguments of the sizes that training and sampling have: what each reads and writes is known, so what it
//! moves can be held against the least that it must.

/// An argument, in single precision. Buffers are as large as what a kernel reads or writes of them.
#[derive(Clone, Debug)]
pub enum Argument {
    /// Numbers in (0, 1) that are read.
    In(usize),
    /// Integers that are read.
    Words(Vec<u32>),
    /// Numbers in double precision that are read.
    Doubles(Vec<f64>),
    /// Numbers that are written.
    Out(usize),
    /// Numbers that are read and written.
    Changed(usize),
    /// An adjoint that is set.
    Adjoint(usize),
    Real(f32),
    Int(usize),
    Size(usize),
}
use Argument::{Adjoint, Changed, Doubles, In, Int, Out, Real, Size, Words};

impl Argument {
    /// Bytes that cannot but be moved.
    pub fn bytes(&self) -> usize {
        match self {
            In(n) | Out(n) | Adjoint(n) => 4 * n,
            Changed(n) => 8 * n,
            Words(words) => 4 * words.len(),
            Doubles(numbers) => 8 * numbers.len(),
            Real(_) | Int(_) | Size(_) => 0,
        }
    }
}

/// A launch.
#[derive(Clone, Debug)]
pub struct Case {
    pub file: &'static str,
    pub kernel: &'static str,
    pub blocks: usize,
    pub threads: usize,
    pub arguments: Vec<Argument>,
}

impl Case {
    /// The least that it must move: each input once, each output once.
    pub fn floor(&self) -> usize {
        self.arguments.iter().map(Argument::bytes).sum()
    }
}

/// So many threads in all, in blocks of 256.
fn case(file: &'static str, kernel: &'static str, threads: usize, arguments: Vec<Argument>) -> Case {
    Case { file, kernel, blocks: threads.div_ceil(256), threads: 256, arguments }
}

/// Threads of a team for each row, as `Team` in `kernels/team.cuh`.
fn team(rows: usize, cols: usize) -> usize {
    rows * cols.next_power_of_two().min(32)
}

/// All cases over so many rows of 16 columns, of which couplings transform every second one.
pub fn cases(rows: usize) -> Vec<Case> {
    [elementwise(rows), rowwise(rows), bijections(rows), densities(rows), sampling(rows)].concat()
}

const WIDTH: usize = 16;

fn elementwise(rows: usize) -> Vec<Case> {
    let n = rows * WIDTH;
    let columns = (0..WIDTH as u32).rev().collect();
    vec![
        case("plan", "copy", n, vec![In(n), Adjoint(n), Size(n)]),
        case("plan", "repeat", n, vec![In(WIDTH), Out(n), Int(WIDTH), Size(n)]),
        case("plan", "fill", n, vec![Adjoint(n), Real(1.0), Size(n)]),
        case("affine", "affine_forward", n, vec![In(n), Out(n), Real(2.0), Real(1.0), Size(n)]),
        case("affine", "affine_backward", n, vec![In(n), Adjoint(n), Real(2.0), Size(n)]),
        case(
            "arithmetic",
            "arithmetic_forward",
            n,
            vec![In(n), In(n), Out(n), Int(2), Int(WIDTH), Int(WIDTH), Int(WIDTH), Size(n)],
        ),
        case("combine", "combine_forward", n, vec![In(n), In(rows * 2), Out(n), Int(0), Int(2), Int(WIDTH), Size(n)]),
        case("concat", "concat_forward", n, vec![In(n), Out(n), Int(WIDTH), Int(0), Int(WIDTH), Size(n)]),
        case("elementwise", "elementwise_forward", n, vec![In(n), Out(n), Out(n), Int(4), Size(n)]),
        case("elementwise", "elementwise_backward", n, vec![In(n), In(n), Adjoint(n), Size(n)]),
        case("select", "select_forward", n, vec![In(n), Out(n), Words(columns), Int(WIDTH), Int(WIDTH), Size(n)]),
        case("fourier", "fourier_forward", rows * 16, vec![In(rows), In(16), Out(rows * 32), Int(16), Size(rows)]),
    ]
}

fn rowwise(rows: usize) -> Vec<Case> {
    let (n, lanes) = (rows * WIDTH, team(rows, WIDTH));
    let shape = || [Int(WIDTH), Size(rows)];
    let with = |arguments: Vec<Argument>| [arguments, shape().to_vec()].concat();
    vec![
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
fn bijections(rows: usize) -> Vec<Case> {
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
        case("scale_shift", "scale_shift_forward", lanes, {
            vec![In(n), In(rows), In(WIDTH), In(WIDTH), Out(n), Out(rows), Real(1.0), Int(WIDTH), Size(rows)]
        }),
        case("scale_shift", "scale_shift_backward", lanes, {
            vec![In(n), In(rows), In(WIDTH), Adjoint(n), Adjoint(rows), Real(1.0), Int(WIDTH), Size(rows)]
        }),
        case("lu_linear", "lu_linear_forward", lanes, {
            let weight = In(WIDTH * WIDTH);
            vec![In(n), In(rows), weight, Out(n), Out(rows), Out(n), Real(1.0), Int(WIDTH), Size(rows)]
        }),
    ]
}

fn densities(rows: usize) -> Vec<Case> {
    let (n, lanes) = (rows * WIDTH, team(rows, WIDTH));
    let with = |arguments: Vec<Argument>| [arguments, vec![Int(WIDTH), Int(WIDTH), Size(rows)]].concat();
    let (k, d) = (8, 4);
    let (raw, saved) = (rows * k * (1 + 2 * d), rows * k * (2 + 3 * d));
    let mixture = [Int(k), Int(d), Int(0), Int(k * (1 + 2 * d)), Size(rows)];
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
        case("mixture_log_density", "mixture_log_density_forward", 32 * rows, {
            let values = vec![In(rows * d), In(raw), Out(rows), Out(saved), Real(1.0)];
            [values, mixture.to_vec()].concat()
        }),
        case("mixture_sample", "mixture_sample_forward", 32 * rows, {
            let values = vec![In(raw), In(rows * d), In(rows), Out(rows * d), Out(rows * k)];
            [values, mixture.to_vec()].concat()
        }),
    ]
}

fn sampling(rows: usize) -> Vec<Case> {
    let (n, d) = (rows * WIDTH, WIDTH / 2 - 1);
    let schedule = Doubles(vec![1.0, 0.1, 20.0, 0.0]);
    // The schedule; EDM's network; uniform times.
    let settings = Doubles(vec![1.0, 0.1, 20.0, 0.0, 2.0, 1.0, 2.0, 0.0, 1e-5, 1.0, 0.0, 0.0]);
    vec![
        case("chains", "advance", team(rows, WIDTH), vec![In(n), Out(n), Changed(rows), Int(WIDTH), Size(rows)]),
        case("hmc", "hmc_trajectory", team(rows, WIDTH), {
            let values = vec![In(n), In(n), In(rows * d), In(rows * d), In(rows), Out(n)];
            [values, vec![Doubles(vec![d as f64]), Size(rows)]].concat()
        }),
        case("noise_schedule", "noise_schedule_forward", rows, {
            vec![In(rows), Out(rows), Out(rows), Out(rows), Out(rows), schedule, Size(rows)]
        }),
        case("diffusion", "diffusion_level", rows, vec![In(rows), Out(11 * rows), settings, Size(rows)]),
    ]
}
