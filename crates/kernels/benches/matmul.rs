//! Throughput of the matrix kernels against the memory bandwidth measured in the same run.
fn main() {}
