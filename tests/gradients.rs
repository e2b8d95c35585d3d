//! Every op of the table, on shapes that break things, against central differences.

use retrodict::check::gradient_error;
use retrodict::ops::table;

#[test]
fn every_op_has_the_gradient_that_differences_have() {
    let cases = table::<f64>();
    assert!(cases.len() > 20, "the table lists all ops");
    for case in cases {
        // One row, a prime number, and more rows than a tile has (with the last tile not full).
        for rows in [1, 13, 130] {
            let error = gradient_error(&case, rows, 7).unwrap();
            assert!(error < 1e-6, "{case:?} with {rows} rows: relative error {error:e}");
        }
    }
}
