//! `proxy`: keep-alive HTTP/1.1 through the gateway (identity, metrics and limits on), nginx and haproxy.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    Plan,
    contestants::{Contestant, Field, token},
    helper::Figures,
    order, process,
    report::{Better, Entry, Metric, Table, median},
    wrk,
};

const CONNECTIONS: usize = 64;
const CASES: [(&str, usize); 2] = [("200 B", 200), ("10 KiB", 10240)];

/// The columns of the benchmarks that load a proxy.
pub(super) fn metrics(what: &'static str) -> Vec<Metric> {
    let (rate, cpu) = match what {
        "message" => ("messages_per_second", "cpu_per_message"),
        _ => ("requests_per_second", "cpu_per_request"),
    };
    let lower = |name, unit, decimals| Metric { name, unit, better: Better::Lower, decimals };
    vec![
        Metric { name: rate, unit: "1/s", better: Better::Higher, decimals: 0 },
        lower(cpu, "µs", 1),
        lower("p50", "ms", 2),
        lower("p99", "ms", 2),
    ]
}

/// Runs both cases.
pub(super) fn run(plan: &Plan) -> Result<Vec<Table>> {
    let field = Field::start()?;
    let token = token()?;
    let mut cases = Vec::new();
    for (case, size) in CASES {
        let path = format!("/api/bench/{size}");
        let load =
            |proxy: &Contestant, duration| wrk::drive(&proxy.target(&path, &token), CONNECTIONS, duration);
        cases.push((case.to_owned(), alternate(plan, &field, load)?));
    }
    Ok(vec![Table {
        bench: "proxy",
        title: format!(
            "keep-alive HTTP/1.1, {CONNECTIONS} connections; medians of {} rounds of {} s",
            plan.rounds,
            plan.round.as_secs()
        ),
        metrics: metrics("request"),
        cases,
    }])
}

/// Runs alternating rounds of `load` over the proxies; each proxy's medians in the order of [`metrics`].
pub(super) fn alternate(
    plan: &Plan,
    field: &Field,
    load: impl Fn(&Contestant, Duration) -> Result<Figures>,
) -> Result<Vec<Entry>> {
    let mut samples = vec![Vec::new(); field.proxies.len()];
    for proxy in &field.proxies {
        load(proxy, Duration::from_secs(1))?;
    }
    for round in 0..plan.rounds {
        for index in order(field.proxies.len(), round) {
            let proxy = &field.proxies[index];
            let pid = proxy.process.pid();
            let before = process::cpu_us(pid)?;
            let figures = load(proxy, plan.round)?;
            let cpu = process::cpu_us(pid)? - before;
            ensure!(cpu > 0.0, "{} used no CPU time: it was not measured", proxy.name);
            samples[index].push([figures.per_second, cpu / figures.requests, figures.p50_ms, figures.p99_ms]);
        }
    }
    Ok(field.proxies.iter().zip(samples).map(|(proxy, samples)| entry(proxy.name, &samples)).collect())
}

/// The median of each column.
pub(super) fn entry(contestant: &'static str, samples: &[[f64; 4]]) -> Entry {
    let column = |index: usize| Some(median(samples.iter().map(|sample| sample[index]).collect()));
    Entry { contestant, values: (0..4).map(column).collect() }
}
