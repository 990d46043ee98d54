//! The page at `/`: what runs, its state, and samples to copy. Plain HTML that needs neither scripts nor a network.

use super::samples;
use crate::{config::Protocol, snapshot::Snapshot, upstream::health::Health};
use std::{fmt::Write, path::Path};

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--good:#1a7f37;--bad:#cf222e}\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{margin:0 0 .25rem}h2{margin:2rem 0 .5rem;font-size:1.1rem}p{margin:.25rem 0}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}\
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:var(--soft);padding:.75rem 1rem;border-radius:6px;overflow-x:auto}\
details{margin:.35rem 0}summary{cursor:pointer}.up{color:var(--good)}.down{color:var(--bad)}.unknown{opacity:.7}";

/// Renders the page for the state of this moment.
pub(super) fn render(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(16 << 10);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Hybrid Gateway</title><style>{STYLE}</style>\n<h1>Hybrid Gateway</h1>\n\
         <p>One front door for Node.js and Python services. Version {}.{}</p>\n",
        env!("CARGO_PKG_VERSION"),
        if snapshot.config.page.has_docs() { " <a href=\"/docs\">API documentation</a>" } else { "" }
    );
    upstreams(&mut out, snapshot);
    routes(&mut out, snapshot);
    out.push_str(&snapshot.samples);
    out.push_str("</html>\n");
    out
}

fn upstreams(out: &mut String, snapshot: &Snapshot) {
    out.push_str("<h2>What runs</h2>\n<table><tr><th>Service<th>Speaks<th>State<th>Since\n<tr><td>gateway<td>HTTP, WebSocket, SSE, gRPC<td class=\"up\">up<td>\n");
    for upstream in snapshot.upstreams.iter() {
        let (health, since, _) = upstream.state.read();
        let state = match health {
            Health::Up => "up",
            Health::Down => "down",
            Health::Unknown => "unknown",
        };
        let protocol = if upstream.config.protocol == Protocol::Http { "HTTP" } else { "gRPC" };
        let _ = writeln!(
            out,
            "<tr><td>{}<td>{protocol}<td class=\"{state}\">{state}<td>{}",
            escape(&upstream.name),
            age(since.as_secs())
        );
    }
    out.push_str("</table>\n");
}

fn routes(out: &mut String, snapshot: &Snapshot) {
    if snapshot.config.routes.is_empty() && snapshot.config.contracts.packages.is_empty() {
        return;
    }
    out.push_str("<h2>Where requests go</h2>\n<table><tr><th>Path or package<th>Service<th>Access\n");
    for route in snapshot.config.routes.values() {
        let access = format!("{:?}", route.access).to_lowercase();
        let scopes = route.scopes.0.join(" ");
        let _ = writeln!(
            out,
            "<tr><td><code>{}</code><td>{}<td>{access} {}",
            escape(&route.path),
            escape(&route.upstream),
            escape(&scopes)
        );
    }
    for (package, upstream) in &snapshot.config.contracts.packages {
        let _ = writeln!(
            out,
            "<tr><td><code>{}</code><td>{}<td>stated in the contract",
            escape(package),
            escape(upstream)
        );
    }
    out.push_str("</table>\n");
}

/// The samples' part, rendered when the configuration is loaded.
pub(super) fn examples(folder: Option<&Path>) -> String {
    let mut out = String::new();
    let files = folder.map(samples::read).unwrap_or_default();
    if files.is_empty() {
        return out;
    }
    out.push_str("<h2>Samples</h2>\n<p><code>{{base}}</code> is this address; <code>{{alice}}</code> and <code>{{bob}}</code> are access tokens.</p>\n");
    for file in files {
        let _ = writeln!(out, "<h3>{}</h3>", escape(&file.name));
        for sample in file.samples {
            let (title, request) = (escape(&sample.title), escape(&sample.request));
            let _ = writeln!(out, "<details><summary>{title}</summary><pre>{request}</pre></details>");
        }
    }
    out
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
        assert_eq!((age(59).as_str(), age(60).as_str(), age(7200).as_str()), ("59 s", "1 min", "2 h"));
    }
}
