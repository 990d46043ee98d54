//! What `cargo xtask demo` sends, against this stack: every sample (the README's among them), and WebSocket,
//! SSE and gRPC.

use std::sync::Arc;

use anyhow::{Result, ensure};
use blackbox::{Sut, runner::Group};
use xtask::demo::{Target, Tokens, execute};

pub(crate) fn add(group: Group) -> Group {
    group.test("every sample and every protocol of the demo passes", passes)
}

async fn passes(sut: Arc<Sut>) -> Result<()> {
    let tokens = Tokens { alice: sut.token("alice")?, bob: sut.token("bob")? };
    let target = Target::new(&sut.base(), tokens)?;
    let root = xtask::root();
    // A thread with a runtime of its own, as the command has: its steps do not move between threads.
    let demo = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(execute(&target, &root.join("samples"), &root.join("proto"), false))
    };
    let reports = tokio::task::spawn_blocking(demo).await??;
    let failed: Vec<_> = reports.iter().filter(|report| !report.ok).collect();
    ensure!(failed.is_empty(), "{} of {} steps failed: {failed:#?}", failed.len(), reports.len());
    for group in ["WebSocket", "SSE", "gRPC"] {
        ensure!(reports.iter().any(|report| report.group.contains(group)), "the demo has no step of {group}");
    }
    ensure!(reports.iter().any(|report| report.group.ends_with(".http")), "the demo has run no sample");
    Ok(())
}
