//! A machine without a CUDA driver.
#![cfg(feature = "cuda")]

use retrodict::{Device, Error};

#[test]
fn a_missing_driver_is_an_error_that_says_what_was_looked_for() {
    match Device::cuda(0) {
        Ok(_) => println!("this machine has a CUDA device"),
        Err(Error::NoDevice { why }) => assert!(why.contains("libcuda") || why.contains("CUDA driver"), "{why}"),
        Err(error) => panic!("{error}"),
    }
}
