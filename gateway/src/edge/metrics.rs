//! Counters and gauges as plain atomics, resolved when routes are built and never looked up for a request.
//! `render` writes them in Prometheus' text format.

use super::problem::Code;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

/// Upper bounds of the duration buckets, in µs.
const BUCKETS: [u32; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
const CODES: usize = Code::GatewayTimeout as usize + 1;

/// All metrics of a gateway; they outlive reloads.
pub struct Metrics {
    routes: Mutex<BTreeMap<String, Arc<RouteMetrics>>>,
    problems: [(AtomicU64, std::sync::OnceLock<&'static str>); CODES],
    /// Open client connections by listener: public, internal.
    pub connections: [AtomicI64; 2],
    /// Open tunnels.
    pub tunnels: AtomicI64,
    /// Tunnels opened.
    pub tunnels_total: AtomicU64,
    /// Open WebSockets that carry a contract's calls.
    pub sockets: AtomicI64,
    /// Such WebSockets opened.
    pub sockets_total: AtomicU64,
    /// Access log lines that were dropped because the writer was behind.
    pub log_dropped: AtomicU64,
    /// Reloads that took effect, and that were refused.
    pub reloads: [AtomicU64; 2],
}

/// One route's, or contract method's.
pub struct RouteMetrics {
    name: String,
    in_flight: AtomicI64,
    by_class: [AtomicU64; 5],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    bytes: AtomicU64,
}

impl RouteMetrics {
    /// The route's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    /// The response's head is known.
    pub(crate) fn head(&self, status: u16, micros: u32) {
        self.by_class[usize::from(status / 100).clamp(1, 5) - 1].fetch_add(1, Relaxed);
        let bucket = BUCKETS.iter().position(|&bound| micros <= bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::from(micros), Relaxed);
    }

    pub(crate) fn end(&self, bytes: u64) {
        self.in_flight.fetch_sub(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            routes: Mutex::default(),
            problems: std::array::from_fn(|_| Default::default()),
            connections: Default::default(),
            tunnels: AtomicI64::new(0),
            tunnels_total: AtomicU64::new(0),
            sockets: AtomicI64::new(0),
            sockets_total: AtomicU64::new(0),
            log_dropped: AtomicU64::new(0),
            reloads: Default::default(),
        }
    }
}

impl Metrics {
    /// The metrics of the route `name`; the same ones for the same name, whatever was reloaded.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            Arc::new(RouteMetrics {
                name: name.to_owned(),
                in_flight: AtomicI64::new(0),
                by_class: Default::default(),
                buckets: Default::default(),
                micros: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
            })
        };
        Arc::clone(routes.entry(name.to_owned()).or_insert_with(made))
    }

    pub(crate) fn problem(&self, code: Code) {
        let (count, name) = &self.problems[code as usize];
        name.get_or_init(|| code.name());
        count.fetch_add(1, Relaxed);
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(4096);
        self.render_routes(&mut out);
        head(&mut out, "gateway_problems_total", "counter", "Error documents by code.");
        for (count, name) in &self.problems {
            if let Some(name) = name.get() {
                let _ = writeln!(out, "gateway_problems_total{{code=\"{name}\"}} {}", count.load(Relaxed));
            }
        }
        head(&mut out, "gateway_connections", "gauge", "Open client connections.");
        for (listener, count) in ["public", "internal"].iter().zip(&self.connections) {
            let _ = writeln!(out, "gateway_connections{{listener=\"{listener}\"}} {}", count.load(Relaxed));
        }
        head(&mut out, "gateway_tunnels", "gauge", "Open WebSocket tunnels.");
        let _ = writeln!(out, "gateway_tunnels {}", self.tunnels.load(Relaxed));
        head(&mut out, "gateway_tunnels_total", "counter", "WebSocket tunnels opened.");
        let _ = writeln!(out, "gateway_tunnels_total {}", self.tunnels_total.load(Relaxed));
        head(&mut out, "gateway_websockets", "gauge", "Open WebSockets that carry a contract's calls.");
        let _ = writeln!(out, "gateway_websockets {}", self.sockets.load(Relaxed));
        head(&mut out, "gateway_websockets_total", "counter", "WebSockets opened for a contract's calls.");
        let _ = writeln!(out, "gateway_websockets_total {}", self.sockets_total.load(Relaxed));
        head(&mut out, "gateway_log_dropped_total", "counter", "Access log lines dropped.");
        let _ = writeln!(out, "gateway_log_dropped_total {}", self.log_dropped.load(Relaxed));
        head(&mut out, "gateway_reloads_total", "counter", "Reloads of the configuration.");
        for (result, count) in ["applied", "refused"].iter().zip(&self.reloads) {
            let _ = writeln!(out, "gateway_reloads_total{{result=\"{result}\"}} {}", count.load(Relaxed));
        }
        out
    }

    fn render_routes(&self, out: &mut String) {
        const HIST: &str = "gateway_response_head_seconds";
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        head(out, "gateway_requests_total", "counter", "Requests by route and status class.");
        for (name, route) in &*routes {
            for (class, count) in route.by_class.iter().enumerate() {
                let (class, count) = (class + 1, count.load(Relaxed));
                if count > 0 {
                    let _ = writeln!(
                        out,
                        "gateway_requests_total{{route=\"{name}\",status=\"{class}xx\"}} {count}"
                    );
                }
            }
        }
        head(out, "gateway_requests_in_flight", "gauge", "Requests whose response has not ended.");
        for (name, route) in &*routes {
            let _ = writeln!(
                out,
                "gateway_requests_in_flight{{route=\"{name}\"}} {}",
                route.in_flight.load(Relaxed)
            );
        }
        head(out, "gateway_response_bytes_total", "counter", "Bytes of response bodies.");
        for (name, route) in &*routes {
            let _ = writeln!(
                out,
                "gateway_response_bytes_total{{route=\"{name}\"}} {}",
                route.bytes.load(Relaxed)
            );
        }
        head(out, HIST, "histogram", "Time from the request's head to the response's head.");
        for (name, route) in &*routes {
            let mut sum = 0;
            for (i, count) in route.buckets.iter().enumerate() {
                sum += count.load(Relaxed);
                let bound =
                    BUCKETS.get(i).map_or("+Inf".to_owned(), |&micros| (f64::from(micros) / 1e6).to_string());
                let _ = writeln!(out, "{HIST}_bucket{{route=\"{name}\",le=\"{bound}\"}} {sum}");
            }
            #[allow(clippy::cast_precision_loss)]
            let seconds = route.micros.load(Relaxed) as f64 / 1e6;
            let _ = writeln!(
                out,
                "{HIST}_sum{{route=\"{name}\"}} {seconds}\n{HIST}_count{{route=\"{name}\"}} {sum}"
            );
        }
    }
}

/// The lines before a metric's values.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_appear_under_their_labels() {
        let metrics = Metrics::default();
        let route = metrics.route("api");
        route.begin();
        route.head(204, 700);
        metrics.problem(Code::BadGateway);
        let text = metrics.render();
        for line in [
            "gateway_requests_total{route=\"api\",status=\"2xx\"} 1",
            "gateway_requests_in_flight{route=\"api\"} 1",
            "gateway_response_head_seconds_bucket{route=\"api\",le=\"0.0005\"} 0",
            "gateway_response_head_seconds_bucket{route=\"api\",le=\"0.001\"} 1",
            "gateway_response_head_seconds_bucket{route=\"api\",le=\"+Inf\"} 1",
            "gateway_problems_total{code=\"bad_gateway\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        route.end(12);
        assert!(metrics.render().contains("gateway_response_bytes_total{route=\"api\"} 12"));
        assert!(Arc::ptr_eq(&route, &metrics.route("api")));
    }
}
