//! Rows next to each other that have something in common.

use std::ops::Range;

/// Runs of rows: the common inputs of a run's rows are the same ([`crate::Request::with_common_inputs`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs<'a> {
    /// For each run, the row after its last.
    ends: &'a [usize],
}

impl<'a> Runs<'a> {
    /// The runs that end before these rows, which increase.
    pub(crate) fn new(ends: &'a [usize]) -> Self {
        Self { ends }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.ends.len()
    }

    /// The rows of each.
    pub fn rows(self) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator {
        (0..self.ends.len()).map(move |r| if r == 0 { 0 } else { self.ends[r - 1] }..self.ends[r])
    }

    /// Makes of one row for each run, of `cols` columns, one for each row.
    pub fn repeat<T: Copy>(self, cols: usize, x: &mut [T]) {
        // From the last to the first, so that no row is written before it has been read.
        for (r, rows) in self.rows().enumerate().rev() {
            rows.rev().for_each(|row| x.copy_within(r * cols..(r + 1) * cols, row * cols));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_for_each_run_becomes_one_for_each_row() {
        let runs = Runs::new(&[1, 4, 6]);
        assert_eq!(runs.rows().collect::<Vec<_>>(), [0..1, 1..4, 4..6]);
        let mut x = [1, 10, 2, 20, 3, 30, 0, 0, 0, 0, 0, 0];
        runs.repeat(2, &mut x);
        assert_eq!(x, [1, 10, 2, 20, 2, 20, 2, 20, 3, 30, 3, 30]);
        Runs::default().repeat(2, &mut x[..0]);
    }
}
