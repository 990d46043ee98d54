//! `ai-call`: Embed as JSON through the gateway beside the same call straight to Python over gRPC.
//! Both share the machine's cores with the model, as they do in use; only the load is pinned.

use std::time::SystemTime;

use anyhow::{Context, Result};

use super::{
    Plan,
    ai_load::Call,
    contestants::{program, sign},
    helper::{Figures, Spec},
    order,
    process::{self, Helper},
    proxy::{entry, metrics},
    report::{Entry, Table},
};
use crate::stack::{Options, Stack};

const CONCURRENCY: [usize; 2] = [1, 32];

/// Starts the gateway and the Python service, and runs both concurrencies.
pub(super) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let unique = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
    let folder = std::env::temp_dir().join(format!("hybrid-bench-ai-{unique}"));
    let result = measure(plan, &folder);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn measure(plan: &Plan, folder: &std::path::Path) -> Result<Vec<Table>> {
    // Logs off on both sides of the call.
    let options = Options::isolated(folder).env("gateway", "GATEWAY__LOG__LEVEL", "off").env(
        "ai",
        "LOG_LEVEL",
        "error",
    );
    let stack = Stack::load(&crate::root(), options)?;
    stack.prepare_only(&["gateway".into(), "ai".into()], false)?;
    for name in ["ai", "gateway"] {
        stack.start(name)?;
        stack.wait_ready(name)?;
    }
    let pid = stack.pid("gateway").context("the gateway's process")?;
    let calls = calls(&stack)?;
    let mut cases = Vec::new();
    for concurrency in CONCURRENCY {
        cases.push((format!("c={concurrency}"), alternate(plan, pid, &calls, concurrency)?));
    }
    Ok(vec![Table {
        bench: "ai-call",
        title: format!(
            "Embed of 13 tokens, JSON through the gateway and gRPC straight to Python; medians of {} rounds of {} s; \
             CPU is the gateway's",
            plan.rounds,
            plan.round.as_secs()
        ),
        metrics: metrics("request"),
        cases,
    }])
}

/// Ours first: the same call by both ways.
fn calls(stack: &Stack) -> Result<[(&'static str, Call); 2]> {
    let user =
        serde_json::json!({"sub": "alice", "scope": "text.embed", "iss": "hybrid-dev", "aud": "hybrid"});
    let identity = serde_json::json!({"sub": "alice", "scope": "text.embed", "kind": "user", "iss": "hybrid-gateway",
        "aud": "ai"});
    let address = |port| format!("127.0.0.1:{}", stack.port(port));
    let json = Call::Json { address: address("public"), token: sign(&stack.secret("identity")?, &user)? };
    let grpc = Call::Grpc { address: address("ai"), identity: sign(&stack.secret("ai")?, &identity)? };
    Ok([("gateway, JSON", json), ("direct, gRPC", grpc)])
}

fn alternate(
    plan: &Plan,
    gateway: u32,
    calls: &[(&'static str, Call)],
    concurrency: usize,
) -> Result<Vec<Entry>> {
    let drive = |call: &Call, seconds: f64| -> Result<Figures> {
        let spec = Spec::Embed { call: call.clone(), concurrency, seconds };
        Helper::start(&program("xtask"), &spec)?.line()
    };
    let mut samples = vec![Vec::new(); calls.len()];
    for (_, call) in calls {
        drive(call, 1.0)?;
    }
    for round in 0..plan.rounds {
        for index in order(calls.len(), round) {
            let before = process::cpu_us(gateway)?;
            let figures = drive(&calls[index].1, plan.round.as_secs_f64())?;
            let cpu = (process::cpu_us(gateway)? - before) / figures.requests;
            samples[index].push([figures.per_second, cpu, figures.p50_ms, figures.p99_ms]);
        }
    }
    let mut entries: Vec<_> = calls.iter().zip(samples).map(|((name, _), s)| entry(name, &s)).collect();
    // The gateway's CPU time is no figure of the call that goes around it.
    entries[1].values[1] = None;
    Ok(entries)
}
