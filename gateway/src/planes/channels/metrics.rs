//! The hub's figures in Prometheus' text format.

use super::Channels;
use crate::edge::metrics::head;
use hub::{AskKind, AskOutcome, Stats};
use std::fmt::Write;

impl Channels {
    /// Adds the hub's metrics, where there is a hub.
    pub fn render(&self, out: &mut String) {
        let Some(hub) = self.hub.get() else { return };
        let stats = hub.stats();
        plain(out, &stats);
        head(out, "gateway_channels_closed_total", "counter", "Connections that were closed, by code.");
        for (code, count) in &stats.closed {
            let name = code.as_str_name().trim_start_matches("CLOSE_CODE_").to_ascii_lowercase();
            let _ = writeln!(out, "gateway_channels_closed_total{{code=\"{name}\"}} {count}");
        }
        head(out, "gateway_channels_asks_total", "counter", "What the application was asked, by outcome.");
        for (kind, outcome, count) in &stats.asks {
            let (kind, outcome) = (kind_name(*kind), outcome_name(*outcome));
            let _ =
                writeln!(out, "gateway_channels_asks_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} {count}");
        }
    }
}

fn plain(out: &mut String, stats: &Stats) {
    let mut line = |name: &str, kind: &str, help: &str, value: u64| {
        let name = format!("gateway_channels_{name}");
        head(out, &name, kind, help);
        let _ = writeln!(out, "{name} {value}");
    };
    for (name, help, value) in [
        ("connections", "Open connections.", stats.connections),
        ("sessions", "Open sessions.", stats.sessions),
        ("subscriptions", "Subscriptions.", stats.subscriptions),
        ("channels", "Channels.", stats.channels),
        ("links", "Attached applications.", stats.links),
        ("asks_in_flight", "Asks that are not answered yet.", stats.asks_in_flight),
        ("asks_waiting", "Asks that wait for an application.", stats.asks_waiting),
        ("events_waiting", "Events that are not acknowledged.", stats.events_waiting),
        ("log_entries", "Publications in all logs.", stats.log_entries),
        ("log_bytes", "Their bytes.", stats.log_bytes),
    ] {
        line(name, "gauge", help, value);
    }
    for (name, help, value) in [
        ("opened_total", "Connections opened.", stats.opened),
        ("resumed_total", "Sessions resumed with a ticket.", stats.resumed),
        ("recovered_total", "Subscriptions that got all since their place.", stats.recovered),
        ("not_recovered_total", "Subscriptions that came back and did not.", stats.not_recovered),
        ("publications_total", "Publications accepted.", stats.publications),
        ("deliveries_total", "Publications for each subscriber.", stats.deliveries),
        ("bytes_total", "Bytes taken for clients.", stats.bytes),
        ("dropped_total", "Publications that slow subscribers missed.", stats.dropped),
        ("events_lost_total", "Events dropped because too many waited.", stats.events_lost),
    ] {
        line(name, "counter", help, value);
    }
}

fn kind_name(kind: AskKind) -> &'static str {
    match kind {
        AskKind::Connect => "connect",
        AskKind::Subscribe => "subscribe",
        AskKind::Publish => "publish",
        AskKind::Call => "call",
    }
}

fn outcome_name(outcome: AskOutcome) -> &'static str {
    match outcome {
        AskOutcome::Answered => "answered",
        AskOutcome::Refused => "refused",
        AskOutcome::TimedOut => "timed_out",
        AskOutcome::Unavailable => "unavailable",
        AskOutcome::Withdrawn => "withdrawn",
    }
}
