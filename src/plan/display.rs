//! `Display for Plan`: the instruction list, for learning and for snapshot tests.

use std::fmt;

use crate::graph::Var;
use crate::op::Op;
use crate::plan::Plan;
use crate::plan::compile::{Replay, Reverse, Target};
use crate::real::Real;

impl<T: Real> fmt::Display for Plan<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = &self.program;
        let unshared: usize = p.slots.iter().map(|s| s.cols).sum();
        writeln!(f, "plan: {} elements a row ({unshared} unshared)", p.width)?;
        for fed in &p.feeds {
            writeln!(f, "  feed     {} [{}]", fed.name, fed.cols)?;
        }
        for (i, drawn) in p.noise.iter().enumerate() {
            writeln!(f, "  noise    {i} [{}] {:?}", drawn.cols, drawn.distribution)?;
        }
        p.forward.iter().try_for_each(|step| self.forward_line(f, step))?;
        p.backward.iter().try_for_each(|step| self.backward_line(f, step))
    }
}

impl<T: Real> Plan<T> {
    fn forward_line(&self, f: &mut fmt::Formatter<'_>, step: &Replay<T>) -> fmt::Result {
        write!(f, "  forward  {} = {}({})", vars(&step.node.outputs), step.node.op.name(), vars(&step.node.inputs))?;
        params(f, &*step.node.op)?;
        write!(f, " ->")?;
        step.outputs.iter().try_for_each(|&buffer| self.slot(f, buffer))?;
        writeln!(f)
    }

    fn backward_line(&self, f: &mut fmt::Formatter<'_>, step: &Reverse) -> fmt::Result {
        let node = &self.program.forward[step.of].node;
        write!(f, "  backward {} <- {}", vars(&node.inputs), vars(&node.outputs))?;
        for (var, target) in node.inputs.iter().zip(&step.input_adjoints) {
            match *target {
                Target::Skip => write!(f, ", v{} skip", var.index)?,
                Target::Set(buffer) => {
                    write!(f, ", v{} set", var.index)?;
                    self.slot(f, buffer)?;
                }
                Target::Add(buffer) => {
                    write!(f, ", v{} add", var.index)?;
                    self.slot(f, buffer)?;
                }
            }
        }
        writeln!(f)
    }

    fn slot(&self, f: &mut fmt::Formatter<'_>, buffer: usize) -> fmt::Result {
        let slot = self.program.slots[buffer];
        write!(f, " {}..{}", slot.offset, slot.offset + slot.cols)
    }
}

fn vars(vars: &[Var]) -> String {
    vars.iter().map(|v| format!("v{}", v.index)).collect::<Vec<_>>().join(", ")
}

fn params<T: Real>(f: &mut fmt::Formatter<'_>, op: &dyn Op<T>) -> fmt::Result {
    op.params().iter().try_for_each(|p| write!(f, " [{} x {}]", p.rows(), p.cols()))
}
