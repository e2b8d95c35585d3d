//! Work that is given once and replayed.

use cudarc::driver::CudaGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::{Cuda, failed};
use crate::error::Error;

/// A captured sequence of launches and copies.
pub(crate) struct Graph(CudaGraph);

// SAFETY: a graph is launched under its device's turn, never from two threads at once.
unsafe impl Send for Graph {}
// SAFETY: as above; there is no method that takes `&self` and is not a launch.
unsafe impl Sync for Graph {}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Graph")
    }
}

impl Graph {
    /// Captures the work that `give` gives, which does not run yet.
    pub fn capture(cuda: &Cuda, give: impl FnOnce() -> Result<(), Error>) -> Result<Self, Error> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        cuda.stream.begin_capture(mode).map_err(failed("capture a graph"))?;
        let given = give();
        let graph = cuda.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(failed("capture a graph"));
        given?;
        let empty = || Error::Device { what: "capture a graph", why: "it is empty".into() };
        Ok(Self(graph?.ok_or_else(empty)?))
    }

    /// Runs it.
    pub fn launch(&self) -> Result<(), Error> {
        self.0.launch().map_err(failed("launch a graph"))
    }
}
