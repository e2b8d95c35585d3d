//! A replay from vectors to a vector, all of which stay where the plan works.

use crate::error::{Error, check_length};
use crate::plan::{Batch, Feed, Plan};
use crate::real::Real;
use crate::store::{Parameters, Vector};

/// The most inputs of such a plan.
const INPUTS: usize = 3;

impl<T: Real> Plan<T> {
    /// Computes the plan's one output from one vector for each input, `[rows x cols]` each.
    ///
    /// # Errors
    /// As [`Plan::forward`].
    pub(crate) fn forward_vectors(
        &mut self,
        params: Parameters<'_, T>,
        batch: Batch<'_>,
        inputs: &[&Vector<T>],
        output: &mut Vector<T>,
    ) -> Result<(), Error> {
        check_length("inputs of a plan of vectors", inputs.len().min(INPUTS), inputs.len())?;
        #[cfg(feature = "cuda")]
        if let (Some(_), 1..) = (&self.on_device, batch.rows) {
            self.check_vectors(params, batch, inputs, output)?;
            return self.forward_vectors_on_device(params, batch, inputs, output);
        }
        let feeds: [Feed<'_, T>; INPUTS] = std::array::from_fn(|i| Feed::Rows(inputs.get(i).map_or(&[], |v| &v[..])));
        self.forward(params, batch, &feeds[..inputs.len()], &mut [&mut output[..]])
    }

    /// As [`Plan::check`] checks feeds, but nothing is copied from a device for it.
    #[cfg(feature = "cuda")]
    fn check_vectors(
        &self,
        params: Parameters<'_, T>,
        Batch { rows, noise }: Batch<'_>,
        inputs: &[&Vector<T>],
        output: &Vector<T>,
    ) -> Result<(), Error> {
        let program = &self.program;
        check_length("parameters", program.params, params.count().min(program.params))?;
        check_length("feeds (one for each input of the graph)", program.feeds.len(), inputs.len())?;
        for (fed, vector) in program.feeds.iter().zip(inputs) {
            check_length("fed elements (rows x columns)", rows * fed.cols, vector.count())?;
        }
        check_length("output elements (rows x columns)", rows * self.width_of_outputs(), output.count())?;
        self.check_noise(rows, noise)
    }
}
