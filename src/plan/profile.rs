//! Where a plan's time goes.

use std::fmt;
use std::time::Instant;

use crate::op::Op;
use crate::plan::Plan;
use crate::plan::compile::Program;
use crate::real::Real;

/// Laps of one tile: the time since the last one is added to the next instruction's.
pub(super) struct Laps<'a> {
    last: Option<Instant>,
    seconds: std::slice::IterMut<'a, f64>,
}

impl<'a> Laps<'a> {
    /// Starts the clock; with no place for seconds nothing is measured.
    pub fn start(seconds: &'a mut [f64]) -> Self {
        let last = (!seconds.is_empty()).then(Instant::now);
        Self { last, seconds: seconds.iter_mut() }
    }

    /// Ends an instruction.
    pub fn lap(&mut self) {
        let Some(last) = &mut self.last else { return };
        let now = Instant::now();
        if let Some(seconds) = self.seconds.next() {
            *seconds += (now - *last).as_secs_f64();
        }
        *last = now;
    }
}

/// Time of instructions of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The instruction: its direction, its op, and the shapes of its parameters.
    pub instruction: String,
    /// How many instructions of the plan are of this kind.
    pub count: usize,
    /// Their seconds, summed over tiles and threads.
    pub seconds: f64,
}

/// The time that a plan has spent in each kind of instruction; printed as a table.
///
/// Feeding rows, drawing noise and storing results count too. Adding up the lanes' gradients and the optimiser's step
/// are not of the plan's instructions.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The kinds, the most expensive first.
    pub shares: Vec<Share>,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: f64 = self.shares.iter().map(|s| s.seconds).sum();
        for Share { instruction, count, seconds } in &self.shares {
            let percent = if total > 0.0 { 100.0 * seconds / total } else { 0.0 };
            writeln!(f, "{percent:5.1} %  {:9.3} ms  {count:3} x {instruction}", 1e3 * seconds)?;
        }
        Ok(())
    }
}

impl<T: Real> Plan<T> {
    /// Begins to measure every instruction, from zero. It costs a reading of the clock per instruction and tile, some
    /// 20 ns, and an allocation now.
    pub fn start_profile(&mut self) {
        let instructions = labels(&self.program).len();
        self.workspaces.iter_mut().for_each(|own| own.seconds = vec![0.0; instructions]);
    }

    /// What was measured since [`Plan::start_profile`]; empty if that was never called.
    pub fn profile(&self) -> Profile {
        let mut shares: Vec<Share> = Vec::new();
        for (i, instruction) in labels(&self.program).into_iter().enumerate() {
            let seconds = self.workspaces.iter().filter_map(|own| own.seconds.get(i)).sum();
            match shares.iter_mut().find(|share| share.instruction == instruction) {
                Some(share) => (share.count, share.seconds) = (share.count + 1, share.seconds + seconds),
                None => shares.push(Share { instruction, count: 1, seconds }),
            }
        }
        shares.retain(|share| share.seconds > 0.0);
        shares.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        Profile { shares }
    }
}

/// What a tile does, in its order.
fn labels<T: Real>(program: &Program<T>) -> Vec<String> {
    let label = |direction: &str, op: &dyn Op<T>| {
        let params = op.params();
        // The first, and further matrices: not biases.
        let shown = params.iter().enumerate().filter(|(i, p)| *i == 0 || p.rows() > 1);
        let shapes: String = shown.map(|(_, p)| format!(" [{} x {}]", p.rows(), p.cols())).collect();
        format!("{direction} {}{shapes}", op.name())
    };
    let forward = program.forward.iter().map(|step| label("forward ", &*step.node.op));
    let backward = program.backward.iter().map(|step| label("backward", &*program.forward[step.of].node.op));
    let [load, store] = ["load rows, draw noise", "store outputs"].map(String::from);
    [load].into_iter().chain(forward).chain([store]).chain(backward).collect()
}
