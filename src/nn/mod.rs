//! Network modules: plain structs of `Copy` parameter ids that register themselves through a
//! [`Scope`](crate::store::Scope) and record themselves on any [`Graph`](crate::Graph).

mod linear;
mod mlp;
mod residual;

pub use linear::Linear;
pub use mlp::Mlp;
pub use residual::ResidualBlock;
