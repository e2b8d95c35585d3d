//! Network modules: plain structs of `Copy` parameter ids that register themselves through a
//! [`Scope`](crate::store::Scope) and record themselves on any [`Graph`](crate::Graph).

mod linear;
mod mlp;
mod noise_conditioned;
mod residual;
mod waved;

pub use linear::Linear;
pub use mlp::Mlp;
pub use noise_conditioned::NoiseConditionedMlp;
pub use residual::ResidualBlock;
pub use waved::WavedMlp;
