//! Runs wrk on the load's core and reads what it reports.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{
    helper::{Figures, Target},
    process::{LOAD_CORE, pinned_command},
};

/// Loads `target` over `connections` keep-alive connections.
pub(super) fn drive(target: &Target, connections: usize, duration: Duration) -> Result<Figures> {
    let command = [
        "wrk",
        "--latency",
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{}s", duration.as_secs()),
        "-H",
        &format!("authorization: Bearer {}", target.token),
        &format!("http://{}{}", target.address, target.path),
    ]
    .map(String::from);
    let output = pinned_command(LOAD_CORE, &command).output().context("run wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse(&text).with_context(|| format!("wrk said:\n{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn parse(text: &str) -> Result<Figures> {
    for complaint in ["Non-2xx", "Socket errors"] {
        if text.contains(complaint) {
            bail!("requests failed");
        }
    }
    let after = |prefix: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(prefix)).map(str::trim);
        line.with_context(|| format!("no line starts with {prefix:?}"))
    };
    let requests =
        text.lines().find(|line| line.contains(" requests in ")).context("no count of requests")?;
    Ok(Figures {
        requests: requests.trim().split(' ').next().unwrap_or_default().parse()?,
        per_second: after("Requests/sec:")?.parse()?,
        p50_ms: millis(after("50%")?)?,
        p99_ms: millis(after("99%")?)?,
    })
}

/// wrk writes durations as "870.00us", "1.21ms" or "1.00s".
fn millis(text: &str) -> Result<f64> {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>()? * factor);
        }
    }
    bail!("{text:?} is no duration")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
Running 8s test @ http://127.0.0.1:8080/
  1 threads and 64 connections
  Latency Distribution
     50%  870.00us
     75%    1.10ms
     90%    1.40ms
     99%    2.10ms
  480123 requests in 8.00s, 98.10MB read
Requests/sec:  60015.37
Transfer/sec:     12.26MB
";

    #[test]
    fn a_report_is_read() {
        let figures = parse(REPORT).expect("figures");
        assert_eq!(figures.requests, 480_123.0);
        assert_eq!(figures.per_second, 60_015.37);
        assert!((figures.p50_ms - 0.87).abs() < 1e-9 && (figures.p99_ms - 2.1).abs() < 1e-9);
    }

    #[test]
    fn failed_requests_are_no_figures() {
        let text = format!("{REPORT}  Non-2xx or 3xx responses: 12\n");
        assert!(parse(&text).is_err());
    }
}
