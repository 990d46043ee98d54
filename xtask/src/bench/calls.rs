//! `calls`: unary calls that the gateway transcodes, beside those that it passes on as native gRPC, beside a gateway
//! written by hand with axum, generated code and tonic, and, where Go is there, beside grpc-gateway and vanguard-go.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    Plan,
    call_load::Form,
    contestants::{self, Contestant, Folder, program, token},
    go_peers,
    helper::{Figures, Spec},
    order,
    process::{self, Helper},
    proxy::{entry, metrics},
    report::Table,
};

const REST: &str = "/v1/bench:echo";
const METHOD: &str = "/bench.Bench/Echo";

/// One way to call one of the contestants.
struct Way<'a> {
    name: &'static str,
    contestant: &'a Contestant,
    form: Form,
    path: &'static str,
}

/// JSON over HTTP/1.1 and HTTP/2.
pub(super) fn run(plan: &Plan) -> Result<Vec<Table>> {
    contestants::build(&["peers"])?;
    let folder = Folder::new()?;
    let mut upstream = Helper::start(&program("xtask"), &Spec::GrpcUpstream)?;
    let port = upstream.line::<contestants::Ready>()?.port;
    let (gateway, _) = contestants::contract_gateway(&folder.0, port, None)?;
    let by_hand = contestants::by_hand(&folder.0, port)?;
    let go_peers = go_peers::start(&folder.0, port)?;
    let way = |name, contestant, form, path| Way { name, contestant, form, path };
    let mut cases = vec![
        (
            "JSON over HTTP/1.1".to_owned(),
            vec![
                way("gateway", &gateway, Form::Json1, REST),
                way("axum, pbjson, tonic", &by_hand, Form::Json1, REST),
            ],
        ),
        (
            "JSON over HTTP/2".to_owned(),
            vec![
                way("gateway", &gateway, Form::Json2, REST),
                way("axum, pbjson, tonic", &by_hand, Form::Json2, REST),
            ],
        ),
        (
            "JSON beside native gRPC, HTTP/2".to_owned(),
            vec![
                way("gateway", &gateway, Form::Json2, REST),
                way("gateway, native gRPC", &gateway, Form::Grpc, METHOD),
            ],
        ),
    ];
    // A case of its own for each, so that the JSON file has each one's ratio.
    for peer in &go_peers {
        for (case, form) in [("JSON over HTTP/1.1", Form::Json1), ("JSON over HTTP/2", Form::Json2)] {
            let ways = vec![way("gateway", &gateway, form, REST), way(peer.name, peer, form, REST)];
            cases.push((format!("{case}, {}", peer.name), ways));
        }
    }
    let cases = cases.into_iter().map(|(name, ways)| Ok((name, alternate(plan, &ways)?)));
    Ok(vec![Table {
        bench: "calls",
        title: format!(
            "unary calls, 293 B of JSON each way, 64 at a time; medians of {} rounds of {} s; \
             a ratio of CPU time is that of requests per CPU second",
            plan.rounds,
            plan.round.as_secs()
        ),
        metrics: metrics("request"),
        cases: cases.collect::<Result<_>>()?,
    }])
}

fn alternate(plan: &Plan, ways: &[Way<'_>]) -> Result<Vec<super::report::Entry>> {
    let token = token()?;
    let drive = |way: &Way<'_>, time: Duration| -> Result<Figures> {
        let target = way.contestant.target(way.path, &token);
        let spec = Spec::Calls { target, form: way.form, seconds: time.as_secs_f64() };
        Helper::start(&program("xtask"), &spec)?.line()
    };
    let mut samples = vec![Vec::new(); ways.len()];
    for way in ways {
        drive(way, Duration::from_secs(1))?;
    }
    for round in 0..plan.rounds {
        for index in order(ways.len(), round) {
            let way = &ways[index];
            let pid = way.contestant.process.pid();
            let before = process::cpu_us(pid)?;
            let figures = drive(way, plan.round)?;
            let cpu = process::cpu_us(pid)? - before;
            ensure!(cpu > 0.0, "{} used no CPU time: it was not measured", way.name);
            samples[index].push([figures.per_second, cpu / figures.requests, figures.p50_ms, figures.p99_ms]);
        }
    }
    Ok(ways.iter().zip(samples).map(|(way, samples)| entry(way.name, &samples)).collect())
}
