//! How cost and memory grow: a training step against batch and width, Adam against parameters, draws against draws and
//! observations, each on one thread and on two. Writes `scaling.csv`, `scaling.svg` and `scaling.png` to `target/scaling/`.
//!
//! `cargo run --release --features plots --example scaling` (two minutes), with `-- --quick` for a look at the machinery.

mod cost;
mod memory;

use std::error::Error;
use std::path::Path;

use retrodict::report::{LinePlot, line_plots};

use crate::cost::{DIM, adam, draws, flow_operations, training_step};

const BATCHES: [usize; 9] = [1, 4, 16, 64, 256, 1024, 4096, 16_384, 65_536];
const WIDTHS: [usize; 7] = [16, 32, 64, 128, 256, 512, 1024];
const PARAMETERS: [usize; 5] = [1000, 10_000, 100_000, 1_000_000, 10_000_000];
const OBSERVATIONS: [usize; 7] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];
const DRAWS: [usize; 5] = [1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// A line of a plot: what it is called, and (what was varied, what was measured).
struct Curve {
    name: &'static str,
    points: Vec<[f64; 2]>,
}

impl Curve {
    fn measure<E: Into<Box<dyn Error>>>(
        name: &'static str,
        values: &[usize],
        measured: impl Fn(usize) -> Result<f64, E>,
    ) -> Result<Self, Box<dyn Error>> {
        let point = |&n: &usize| {
            let y = measured(n).map_err(Into::into)?;
            println!("  {name:32} {n:10} {y:14.4}");
            Ok([n as f64, y])
        };
        Ok(Self { name, points: values.iter().map(point).collect::<Result<_, Box<dyn Error>>>()? })
    }

    /// The same on one thread and on two.
    fn pair<E: Into<Box<dyn Error>>>(
        values: &[usize],
        measured: impl Fn(usize, usize) -> Result<f64, E>,
    ) -> Result<Vec<Self>, Box<dyn Error>> {
        let one = Self::measure("one thread", values, |n| measured(1, n))?;
        Ok(vec![one, Self::measure("two threads", values, |n| measured(2, n))?])
    }
}

/// Curves in one panel.
struct Figure {
    title: &'static str,
    axes: [&'static str; 2],
    curves: Vec<Curve>,
}

impl Figure {
    fn measure(
        title: &'static str,
        axes: [&'static str; 2],
        curves: impl FnOnce() -> Result<Vec<Curve>, Box<dyn Error>>,
    ) -> Result<Self, Box<dyn Error>> {
        println!("{title}: {}, {}", axes[0], axes[1]);
        Ok(Self { title, axes, curves: curves()? })
    }

    /// On logarithmic axes, with a guide that is in proportion to `work` and touches the first curve from below.
    fn beside(&self, guide: &str, work: impl Fn(f64) -> f64) -> LinePlot {
        let points = &self.curves[0].points;
        let least = |costs: &mut dyn Iterator<Item = f64>| costs.fold(f64::INFINITY, f64::min);
        let rate = least(&mut points.iter().map(|&[n, cost]| cost / work(n)));
        let floor = least(&mut self.curves.iter().flat_map(|curve| &curve.points).map(|point| point[1]));
        // As far down as the measured costs go.
        let ideal = points.iter().map(|&[n, _]| [n, rate * work(n)]).filter(|point| point[1] > 0.5 * floor);
        self.plot([true, true]).guide(guide, &ideal.collect::<Vec<_>>())
    }

    fn plot(&self, logarithmic: [bool; 2]) -> LinePlot {
        let plot = LinePlot::new(self.title, self.axes).logarithmic(logarithmic);
        self.curves.iter().fold(plot, |plot, curve| plot.line(curve.name, &curve.points))
    }

    /// How many times faster the second of two curves is than the first.
    fn gain(&self, name: &'static str) -> Curve {
        let [one, two] = [0, 1].map(|k| &self.curves[k].points);
        Curve { name, points: one.iter().zip(two).map(|(one, two)| [one[0], one[1] / two[1]]).collect() }
    }

    fn table(&self) -> String {
        let row =
            |curve: &Curve, point: &[f64; 2]| format!("{},{},{},{:e}\n", self.title, curve.name, point[0], point[1]);
        self.curves.iter().flat_map(|curve| curve.points.iter().map(move |point| row(curve, point))).collect()
    }
}

fn measure(quick: bool) -> Result<[Figure; 5], Box<dyn Error>> {
    let some = |values: &'static [usize]| &values[..if quick { 3 } else { values.len() }];
    Ok([
        Figure::measure("a training step of a flow", ["rows of a batch", "ms"], || {
            Curve::pair(some(&BATCHES), |threads, n| training_step(threads, n, 64))
        })?,
        Figure::measure("a training step of 256 rows", ["width of the hidden layers", "ms"], || {
            Curve::pair(some(&WIDTHS), |threads, n| training_step(threads, 256, n))
        })?,
        Figure::measure("a step of Adam", ["parameters", "ms"], || Curve::pair(some(&PARAMETERS), adam))?,
        Figure::measure("ten draws for each observation", ["observations", "ms"], || {
            Curve::pair(some(&OBSERVATIONS), |threads, n| draws(threads, n, 10))
        })?,
        Figure::measure("memory of drawing", ["draws for one observation; observations", "peak resident MB"], || {
            memory_curves(some(&DRAWS), some(&OBSERVATIONS))
        })?,
    ])
}

fn memory_curves(draws: &[usize], observations: &[usize]) -> Result<Vec<Curve>, Box<dyn Error>> {
    Ok(vec![
        Curve::measure("draws", draws, |n| memory::of("draws", n))?,
        Curve::measure("observations", observations, |n| memory::of("observations", n))?,
    ])
}

fn plot(figures: &[Figure; 5], folder: &Path) -> Result<(), retrodict::Error> {
    let [batch, width, parameters, observations, memory] = figures;
    let gains = [(batch, "rows"), (parameters, "parameters"), (observations, "observations")];
    let gains = gains.map(|(figure, name)| figure.gain(name));
    let gains = Figure {
        title: "gain by the second thread",
        axes: ["rows; parameters; observations", "times faster"],
        curves: gains.into(),
    };
    let longest = gains.curves.iter().flat_map(|curve| &curve.points).fold(1.0, |n: f64, point| n.max(point[0]));
    let linear = |n| n;
    let kept = [1e5, 1e7].map(|draws| [draws, 8.0 * DIM as f64 * draws / f64::from(1 << 20)]);
    let panels = [
        batch.beside("linear", linear),
        width.beside("as the operations", |n| flow_operations(256, n as usize)),
        parameters.beside("linear", linear),
        observations.beside("linear", linear),
        memory.plot([true, true]).guide("all draws kept", &kept),
        gains.plot([true, false]).guide("ideal", &[[1.0, 2.0], [longest, 2.0]]),
    ];
    let picture = line_plots(&panels, 3)?;
    picture.write(folder.join("scaling.svg"))?;
    picture.write(folder.join("scaling.png"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["memory", kind, n] => return memory::measure(kind, n.parse()?),
        [] => false,
        ["--quick"] => true,
        _ => return Err("usage: scaling [--quick]".into()),
    };
    println!("training of W1's flow: {:.1} MB at most", memory::of("training", 200)?);
    println!("a process that makes its data and one step: {:.1} ms", memory::first_step()?);
    let figures = measure(quick)?;
    let folder = Path::new("target/scaling");
    std::fs::create_dir_all(folder)?;
    let rows: String = figures.iter().map(Figure::table).collect();
    std::fs::write(folder.join("scaling.csv"), format!("figure,line,varied,measured\n{rows}"))?;
    plot(&figures, folder)?;
    Ok(())
}
