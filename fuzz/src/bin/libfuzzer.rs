//! One target, named by `SHOAL_FUZZ_TARGET`, under libFuzzer.
#![no_main]

use std::sync::LazyLock;

use shoal_fuzz::{Target, targets};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("SHOAL_FUZZ_TARGET").unwrap_or_default();
    targets::find(&name).unwrap_or_else(|| {
        let known: Vec<_> = targets::all().iter().map(|target| target.name).collect();
        eprintln!("set SHOAL_FUZZ_TARGET to one of: {}", known.join(", "));
        std::process::exit(1);
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
