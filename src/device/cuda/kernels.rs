//! The PTX of all kernels.

use std::ffi::CStr;

macro_rules! kernels {
    ($($file:literal),* $(,)?) => {
        /// The PTX of `kernels/{file}.cu` for numbers of so many significand bits.
        pub(super) fn ptx(file: &str, bits: u32) -> Option<&'static CStr> {
            let (single, double) = match file {
                $($file => (
                    concat!(include_str!(concat!("../../../kernels/f32/", $file, ".ptx")), "\0"),
                    concat!(include_str!(concat!("../../../kernels/f64/", $file, ".ptx")), "\0"),
                ),)*
                _ => return None,
            };
            let text = if bits == <f32 as crate::real::Real>::SIGNIFICAND_BITS { single } else { double };
            CStr::from_bytes_with_nul(text.as_bytes()).ok()
        }
    };
}

kernels! {
    "affine", "arithmetic", "chains", "combine", "concat", "constant", "coupling", "diffusion", "elementwise", "fourier",
    "gaussian_kl", "gaussian_log_density", "gaussian_sample", "hmc", "linear", "lu_linear", "mixture_log_density",
    "mixture_sample", "nested", "noise_schedule", "normal_log_density", "optim", "plan", "reduce", "scale_shift",
    "select", "spline_coupling",
}
