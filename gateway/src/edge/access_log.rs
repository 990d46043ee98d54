//! One line for each request, formatted by hand and written by a thread of its own. When the writer is behind,
//! lines are dropped and counted; a request never waits for its log. Queries, tokens and bodies are never logged.

use super::{context::Context, metrics::Metrics};
use crate::config::LogFormat;
use http::Method;
use std::{
    io::Write,
    sync::{Arc, Condvar, Mutex, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Lines wait in at most this many bytes.
const BUFFER: usize = 1 << 20;
/// Lines are written together at most this often, which spares a wake-up for each.
const BATCH: Duration = Duration::from_millis(20);

/// Where lines go.
pub struct AccessLog {
    format: LogFormat,
    queue: Mutex<Queue>,
    wake: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    parked: bool,
    closed: bool,
}

impl AccessLog {
    /// Starts the writer; it ends with `close`.
    pub fn start(
        format: LogFormat,
        metrics: Arc<Metrics>,
        mut out: impl Write + Send + 'static,
    ) -> (Arc<Self>, std::thread::JoinHandle<()>) {
        let log = Arc::new(Self { format, queue: Mutex::default(), wake: Condvar::new(), metrics });
        let writer = Arc::clone(&log);
        let thread = std::thread::spawn(move || {
            while let Some(bytes) = writer.next_batch() {
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
                std::thread::sleep(BATCH);
            }
        });
        (log, thread)
    }

    /// Ends the writer after what is queued.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_batch(&self) -> Option<Vec<u8>> {
        let mut queue = self.lock();
        while queue.bytes.is_empty() {
            if queue.closed {
                return None;
            }
            queue.parked = true;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.parked = false;
        Some(std::mem::take(&mut queue.bytes))
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.bytes.len() + line.len() > BUFFER {
            self.metrics.log_dropped.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes.extend_from_slice(line);
        if std::mem::take(&mut queue.parked) {
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Begins the line of a request.
    pub fn line(self: &Arc<Self>, method: &Method, path: &str) -> Box<Line> {
        Box::new(Line {
            log: Arc::clone(self),
            method: method.clone(),
            path: path.to_owned(),
            rest: Vec::new(),
            start: Instant::now(),
        })
    }
}

/// A request's line, written when its response has ended.
pub struct Line {
    log: Arc<AccessLog>,
    method: Method,
    path: String,
    rest: Vec<u8>,
    start: Instant,
}

impl Line {
    /// What the response's head decides.
    pub fn head(&mut self, context: &Context, route: &str, status: u16) {
        self.start = context.start;
        let out = &mut self.rest;
        let (id, sub, client) = (context.request_id_str(), &context.caller.sub, context.client.ip());
        let upstream = context.upstream_micros();
        match self.log.format {
            LogFormat::Json => {
                let _ = write!(
                    out,
                    "\"status\":{status},\"route\":\"{route}\",\"request_id\":\"{id}\",\"client\":\"{client}\",\"sub\":\""
                );
                escape(out, sub);
                out.push(b'"');
                // The trace id is what follows "00-".
                let trace = context.traceparent.to_str().unwrap_or_default().get(3..35).unwrap_or_default();
                let _ = write!(out, ",\"trace_id\":\"{trace}\"");
                if let Some(micros) = upstream {
                    let _ = write!(out, ",\"upstream_ms\":{}.{:03}", micros / 1000, micros % 1000);
                }
            }
            LogFormat::Human => {
                let _ = write!(out, "{status} route={route} sub=");
                escape(out, sub);
                let _ = write!(out, " client={client} id={id}");
            }
        }
    }

    /// Hands the line to the writer.
    pub fn write(self, bytes: u64) {
        let micros = self.start.elapsed().as_micros();
        let mut out = Vec::with_capacity(self.rest.len() + self.path.len() + 160);
        let json = self.log.format == LogFormat::Json;
        out.extend_from_slice(if json { b"{\"timestamp\":\"" } else { b"" });
        timestamp(&mut out, SystemTime::now());
        out.extend_from_slice(if json {
            b"\",\"level\":\"INFO\",\"message\":\"request\",\"method\":\""
        } else {
            b"  INFO request "
        });
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.extend_from_slice(if json { b"\",\"path\":\"" } else { b" " });
        escape(&mut out, &self.path);
        out.extend_from_slice(if json { b"\"," } else { b" " });
        out.extend_from_slice(&self.rest);
        let (whole, part) = (micros / 1000, micros % 1000);
        let _ = match json {
            true => writeln!(out, ",\"bytes\":{bytes},\"duration_ms\":{whole}.{part:03}}}"),
            false => writeln!(out, " bytes={bytes} {whole}.{part:03}ms"),
        };
        self.log.push(&out);
    }
}

/// Keeps a line one line, and a JSON string one string.
fn escape(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..=0x1f | 0x7f => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            _ => out.push(byte),
        }
    }
}

/// RFC 3339 in UTC with milliseconds; days to a civil date as in Hinnant's "chrono-compatible low-level date algorithms".
fn timestamp(out: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s, ms) = (second / 3600, second / 60 % 60, second % 60, since.subsec_millis());
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{edge::Listener, identity::Caller};
    use http::HeaderValue;
    use std::net::SocketAddr;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, path: &str) -> String {
        let out = Shared::default();
        let (log, thread) = AccessLog::start(format, Arc::default(), out.clone());
        let id = HeaderValue::from_static("req-1");
        let client = SocketAddr::from(([127, 0, 0, 1], 9));
        let context = Context::new(
            Listener::Public,
            client,
            Instant::now(),
            Arc::new(Caller::anonymous(0)),
            (id.clone(), id),
        );
        let mut line = log.line(&Method::GET, path);
        line.head(&context, "api", 200);
        line.write(5);
        log.close();
        thread.join().unwrap();
        let bytes = out.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_one_valid_object_whatever_the_path() {
        let text = written(LogFormat::Json, "/a\"b\\c\n");
        assert_eq!(text.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json["path"], &json["status"], &json["bytes"]),
            (&"/a\"b\\c\n".into(), &200.into(), &5.into())
        );
    }

    #[test]
    fn a_human_line_says_the_same() {
        let text = written(LogFormat::Human, "/x");
        assert!(
            text.contains(
                "INFO request GET /x 200 route=api sub=anonymous client=127.0.0.1 id=req-1 bytes=5"
            ),
            "{text}"
        );
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        let mut out = Vec::new();
        timestamp(&mut out, UNIX_EPOCH + Duration::from_millis(951_782_400_123));
        assert_eq!(String::from_utf8(out).unwrap(), "2000-02-29T00:00:00.123Z");
    }
}
