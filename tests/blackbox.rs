//! Tests of the whole stack over its public ports, with its real models and stores.
//! `cargo test --workspace --test blackbox` runs all; with `-- faults` those whose name holds "faults".

mod cases;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // One group after the other: tests that measure time want the machine for themselves.
    let outcomes: Vec<bool> = cases::all().into_iter().map(|group| group.run(&arguments)).collect();
    ExitCode::from(u8::from(outcomes.contains(&false)))
}
