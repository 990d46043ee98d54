//! What the demo shows: each step as it happens, and a table at the end.

use std::time::Duration;

use serde::Serialize;

use super::timing::{Hop, describe};
use super::{Target, Tokens};
use crate::term::{self, BOLD, DIM, GREEN, RED, paint, shorten};

/// What became of one step.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The sample's file, or `WebSocket`, `SSE`, `gRPC`.
    pub group: String,
    /// The step's title.
    pub title: String,
    /// Whether every expectation held.
    pub ok: bool,
    /// The HTTP or gRPC status.
    pub status: String,
    /// The expectations that did not hold, with what was found.
    pub failures: Vec<String>,
    /// From sending the request to the end of the response.
    pub total_ms: f64,
    /// The hops' own times.
    pub hops: Vec<Hop>,
}

/// Prints steps, if wanted, and collects their reports.
pub(super) struct Printer {
    verbose: bool,
    base: String,
    tokens: Tokens,
    group: String,
    reports: Vec<Report>,
}

impl Printer {
    pub(super) fn new(verbose: bool, target: &Target) -> Self {
        let (base, tokens) = (target.base.clone(), target.tokens.clone());
        let printer = Self { verbose, base, tokens, group: String::new(), reports: Vec::new() };
        printer.say(&format!("{} {}", paint(BOLD, "demo against"), printer.base));
        printer
    }

    fn say(&self, line: &str) {
        if self.verbose {
            term::say(line);
        }
    }

    /// Begins a group of steps.
    pub(super) fn group(&mut self, name: &str) {
        self.group = name.to_owned();
        let rule = "─".repeat(term::width().min(100).saturating_sub(name.chars().count() + 4));
        self.say(&format!("\n{}", paint(DIM, format_args!("── {} {rule}", paint(BOLD, name)))));
    }

    /// Begins a step.
    pub(super) fn step(&self, title: &str) {
        self.say(&format!("\n{}", paint(BOLD, title)));
    }

    /// What is sent; tokens become names.
    pub(super) fn sent(&self, line: &str) {
        self.say(&format!("  {} {}", paint(DIM, "→"), self.tidy(line)));
    }

    /// What came back.
    pub(super) fn received(&self, line: &str) {
        self.say(&format!("  {} {}", paint(DIM, "←"), self.tidy(line)));
    }

    /// More of either.
    pub(super) fn detail(&self, line: &str) {
        self.say(&format!("    {}", paint(DIM, self.tidy(line))));
    }

    /// A response's body, on a few lines.
    pub(super) fn body(&self, text: &str) {
        let width = term::width().min(140).saturating_sub(6);
        let text: Vec<char> = shorten(&self.masked(text), 3 * width).chars().collect();
        for line in text.chunks(width) {
            self.say(&format!("    {}", paint(DIM, line.iter().collect::<String>())));
        }
    }

    /// An event of a stream, with when it came.
    pub(super) fn event(&self, at: Duration, line: &str) {
        let at = format!("+{:.0} ms", at.as_secs_f64() * 1e3);
        self.say(&format!("    {} {}", paint(DIM, format_args!("{at:>9}")), self.tidy(line)));
    }

    fn tidy(&self, line: &str) -> String {
        shorten(&self.masked(line), term::width().saturating_sub(16))
    }

    fn masked(&self, line: &str) -> String {
        let line = line.replace(&self.tokens.alice, "ALICE").replace(&self.tokens.bob, "BOB");
        line.replace(&self.base, "")
    }

    /// Ends a step. `held`: the expectations that held; `failures`: those that did not.
    pub(super) fn end(
        &mut self,
        title: &str,
        status: &str,
        total: Duration,
        hops: Vec<Hop>,
        held: &[String],
        failures: Vec<String>,
    ) {
        self.say(&format!("    {}", paint(DIM, describe(total, &hops))));
        if !held.is_empty() {
            let width = term::width().saturating_sub(8);
            self.say(&format!("  {} {}", paint(GREEN, "✓"), paint(DIM, shorten(&held.join(" · "), width))));
        }
        for failure in &failures {
            self.say(&format!("  {} {failure}", paint(RED, "✗")));
        }
        self.reports.push(Report {
            group: self.group.clone(),
            title: title.to_owned(),
            ok: failures.is_empty(),
            status: status.to_owned(),
            failures,
            total_ms: (total.as_secs_f64() * 1e4).round() / 10.0,
            hops,
        });
    }

    /// Prints the table.
    pub(super) fn finish(self) -> Vec<Report> {
        let failed = self.reports.iter().filter(|report| !report.ok).count();
        let columns = self.reports.iter().map(|r| r.title.chars().count()).max().unwrap_or(0).min(60);
        self.say(&format!("\n{}", paint(BOLD, "summary")));
        let heading = format!(
            "    {:columns$}  {:>14} {:>9} {:>8} {:>9}",
            "", "status", "total ms", "gateway", "upstream"
        );
        self.say(&paint(DIM, heading).to_string());
        for report in &self.reports {
            let mark = if report.ok { paint(GREEN, "✓") } else { paint(RED, "✗") };
            let title = shorten(&report.title, columns);
            let hop = |name: &str| {
                report.hops.iter().find(|hop| hop.name == name).map(|hop| format!("{:.1}", hop.ms))
            };
            let (gateway, upstream) =
                (hop("gateway").unwrap_or("–".into()), hop("upstream").unwrap_or("–".into()));
            let line = format!("{:>14} {:>9.1} {gateway:>8} {upstream:>9}", report.status, report.total_ms);
            self.say(&format!("  {mark} {title:columns$}  {line}"));
            for failure in &report.failures {
                self.say(&format!("      {failure}"));
            }
        }
        self.say(&format!("\ndemo: {} passed, {failed} failed", self.reports.len() - failed));
        self.reports
    }
}
