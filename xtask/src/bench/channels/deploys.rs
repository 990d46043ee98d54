//! `deploy`: Node.js is killed and started again while people write in a chat and others read it. What counts is whether a
//! socket is lost, and whether everything that was acknowledged is in Node's database afterwards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::deploy::{Crowd, Outcome, Work};
use crate::{
    bench::{
        Plan,
        contestants::{Folder, root, sign},
        report::{Better, Entry, Metric, Table},
    },
    stack::{Options, Profile, Signal, Stack},
};

const WRITERS: usize = 20;
const READERS: usize = 500;

/// The stack's own gateway and Node.js; no peer holds sockets for an application.
pub(in crate::bench) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let deploys = if plan.quick { 5 } else { 50 };
    let folder = Folder::new()?;
    let mut options = Options::isolated(&folder.0);
    options.profile = Profile::Release;
    let stack = Stack::load(&root(), options)?;
    stack.prepare()?;
    for name in ["gateway", "realtime"] {
        stack.start(name)?;
        stack.wait_ready(name)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let (outcome, seconds) = runtime.block_on(deployed(&stack, deploys))?;
    let figures = [
        outcome.acknowledged as f64,
        outcome.lost as f64,
        outcome.unseen as f64,
        outcome.sockets_lost as f64,
        outcome.retries as f64,
        seconds,
    ];
    let metric = |name, better, unit| Metric { name, unit, better, decimals: 0 };
    Ok(vec![Table {
        bench: "deploy",
        title: format!(
            "Node.js is killed (SIGKILL) and started again {deploys} times at random while {WRITERS} write and {READERS} \
             read a chat room; lost: acknowledged, but not exactly once in Node's history"
        ),
        metrics: vec![
            metric("acknowledged", Better::Higher, ""),
            metric("lost", Better::Lower, ""),
            metric("unseen_by_readers", Better::Lower, ""),
            metric("sockets_lost", Better::Lower, ""),
            metric("sent_again", Better::Lower, ""),
            metric("took", Better::Lower, "s"),
        ],
        cases: vec![(
            format!("{deploys} deploys"),
            vec![Entry { contestant: "gateway", values: figures.into_iter().map(Some).collect() }],
        )],
    }])
}

async fn deployed(stack: &Stack, deploys: usize) -> Result<(Outcome, f64)> {
    let secret = stack.secret("identity")?;
    let token = |index: usize| {
        let claims = serde_json::json!({"sub": format!("writer-{index}"), "scope": "notes", "iss": "hybrid-dev",
            "aud": "hybrid"});
        sign(&secret, &claims)
    };
    let crowd = Crowd {
        address: format!("127.0.0.1:{}", stack.port("public")),
        room: "deploy".into(),
        writers: (0..WRITERS).map(token).collect::<Result<_>>()?,
        readers: READERS,
    };
    let work = Work::begin(crowd).await?;
    let started = std::time::Instant::now();
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    for round in 0..deploys {
        // Numerical Recipes' generator: the moment of the fault is what is random here.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        tokio::time::sleep(Duration::from_millis(u64::from(random >> 22))).await;
        tokio::task::block_in_place(|| redeploy(stack)).with_context(|| format!("deploy {}", round + 1))?;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok((work.end().await?, seconds))
}

fn redeploy(stack: &Stack) -> Result<()> {
    stack.kill("realtime", Signal::KILL)?;
    stack.wait_exit("realtime", Duration::from_secs(5))?;
    // The phase follows the exit by a moment, and a new start needs it.
    let until = std::time::Instant::now() + Duration::from_secs(2);
    while stack.start("realtime").is_err() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    stack.wait_ready("realtime")
}
