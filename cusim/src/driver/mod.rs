//! The driver: what stands behind the functions of `libcuda.so`.
//!
//! Streams are lazy: their work runs when somebody waits for it, as late as the rules allow, so that a missing wait
//! reads old data. An error of a kernel is sticky, as on hardware: every later call returns it.

mod capture;
mod exports;
mod state;
mod work;

pub(crate) use exports::{cusim_counters, cusim_message, cusim_reset, cusim_set_memory, cusim_set_order};

/// Result codes of the driver, as `cuda.h` numbers them.
pub(crate) mod code {
    pub const SUCCESS: i32 = 0;
    pub const INVALID_VALUE: i32 = 1;
    pub const OUT_OF_MEMORY: i32 = 2;
    pub const NOT_INITIALIZED: i32 = 3;
    pub const INVALID_DEVICE: i32 = 101;
    pub const INVALID_CONTEXT: i32 = 201;
    pub const INVALID_PTX: i32 = 218;
    pub const INVALID_HANDLE: i32 = 400;
    pub const ILLEGAL_STATE: i32 = 401;
    pub const NOT_FOUND: i32 = 500;
    pub const NOT_READY: i32 = 600;
    pub const CAPTURE_UNSUPPORTED: i32 = 900;
    pub const CAPTURE_INVALIDATED: i32 = 901;
    pub const CAPTURE_MERGE: i32 = 902;
    pub const CAPTURE_UNMATCHED: i32 = 903;
    pub const CAPTURE_UNJOINED: i32 = 904;
    pub const CAPTURE_ISOLATION: i32 = 905;
    pub const CAPTURED_EVENT: i32 = 907;

    /// The name that `cuGetErrorName` gives.
    pub fn name(code: i32) -> &'static std::ffi::CStr {
        match code {
            SUCCESS => c"CUDA_SUCCESS",
            INVALID_VALUE => c"CUDA_ERROR_INVALID_VALUE",
            OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
            NOT_INITIALIZED => c"CUDA_ERROR_NOT_INITIALIZED",
            INVALID_DEVICE => c"CUDA_ERROR_INVALID_DEVICE",
            INVALID_CONTEXT => c"CUDA_ERROR_INVALID_CONTEXT",
            INVALID_PTX => c"CUDA_ERROR_INVALID_PTX",
            INVALID_HANDLE => c"CUDA_ERROR_INVALID_HANDLE",
            ILLEGAL_STATE => c"CUDA_ERROR_ILLEGAL_STATE",
            NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
            NOT_READY => c"CUDA_ERROR_NOT_READY",
            700 => c"CUDA_ERROR_ILLEGAL_ADDRESS",
            716 => c"CUDA_ERROR_MISALIGNED_ADDRESS",
            719 => c"CUDA_ERROR_LAUNCH_FAILED",
            CAPTURE_UNSUPPORTED => c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
            CAPTURE_INVALIDATED => c"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
            CAPTURE_MERGE => c"CUDA_ERROR_STREAM_CAPTURE_MERGE",
            CAPTURE_UNMATCHED => c"CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
            CAPTURE_UNJOINED => c"CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
            CAPTURE_ISOLATION => c"CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
            CAPTURED_EVENT => c"CUDA_ERROR_CAPTURED_EVENT",
            _ => c"CUDA_ERROR_UNKNOWN",
        }
    }
}
