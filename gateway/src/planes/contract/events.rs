//! The body of a streamed answer: takes the messages that are there, writes them in the client's form, beats while
//! there are none, and says how it ended.

use super::{
    Endpoint, form::Form, messages::Messages, problems, unsent::Unsent, upload::Progress, wire::STALLED,
};
use crate::edge::{BodyError, Context as CallContext, Problem};
use bytes::Bytes;
use http_body::Frame;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};
use tokio::{task::AbortHandle, time::Sleep};
use transcode::{HttpBody, Matched};

/// Messages that are there already share a write, up to about this size.
const WRITE: usize = 15 << 10;

/// What has been written gets this long to go out before the body breaks off: a reset overtakes what waits.
const BREAK_OFF: Duration = Duration::from_millis(20);

/// The upstream's stream, within reach of the one who looks whether the client reads.
///
/// A body that nobody polls cannot watch its own time: a client that stops reading would hold the upstream's work
/// for as long as it likes. The watch holds no stream: it sets aside what came for a client that does
/// not read, and ends what waited for too long.
struct Shared(Mutex<Source>);

struct Source {
    /// None once it has ended.
    messages: Option<Messages>,
    /// When it was last asked for.
    asked: Instant,
    /// Something was given out and nothing was asked for since: nobody waits to be woken.
    given: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch(self: Arc<Self>, patience: Duration) {
        loop {
            let until = self.lock().asked + patience;
            tokio::time::sleep_until(until.min(Instant::now() + STALLED).into()).await;
            let mut source = self.lock();
            let unread = source.asked.elapsed();
            if unread >= patience {
                source.messages = None;
                return;
            }
            if unread >= STALLED
                && source.given
                && let Some(messages) = &mut source.messages
            {
                messages.set_aside(&mut Context::from_waker(Waker::noop()));
            }
        }
    }
}

/// The response's body.
pub(super) struct Events {
    endpoint: Arc<Endpoint>,
    matched: Arc<Matched>,
    form: Form,
    source: Arc<Shared>,
    watch: AbortHandle,
    /// Of a request that is still being sent: while it moves, the stream is not idle.
    progress: Option<Arc<Progress>>,
    unsent: Arc<Unsent>,
    request_id: String,
    buffer: Vec<u8>,
    /// Raw content goes out as it came.
    content: Bytes,
    begun: bool,
    ended: bool,
    /// Ended with an error that has no place in the body: it breaks off instead.
    broken: bool,
    /// One timer for heartbeat, idle and total time: it looks at the moments below when it fires.
    timer: Pin<Box<Sleep>>,
    last_sent: Instant,
    last_message: Instant,
    deadline: Instant,
}

impl Events {
    pub(super) fn new(
        endpoint: &Arc<Endpoint>,
        matched: Arc<Matched>,
        form: Form,
        messages: Messages,
        progress: Option<Arc<Progress>>,
        context: &CallContext,
    ) -> Self {
        let now = Instant::now();
        let source =
            Arc::new(Shared(Mutex::new(Source { messages: Some(messages), asked: now, given: false })));
        // A client that reads lets the body be polled at every heartbeat at least.
        let patience = endpoint.limits.stream_idle.max(endpoint.limits.heartbeat) + endpoint.limits.heartbeat;
        let mut events = Self {
            endpoint: Arc::clone(endpoint),
            matched,
            form,
            watch: tokio::spawn(Arc::clone(&source).watch(patience)).abort_handle(),
            source,
            progress,
            unsent: Arc::default(),
            request_id: context.request_id_str().to_owned(),
            buffer: Vec::new(),
            content: Bytes::new(),
            begun: false,
            ended: false,
            broken: false,
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            last_sent: now,
            last_message: now,
            deadline: context.deadline,
        };
        let next = events.next_moment();
        events.timer.as_mut().reset(next.into());
        events
    }

    /// The raw content of a message.
    pub(super) fn content(&self, message: &Bytes) -> Result<HttpBody, Problem> {
        let content = self.matched.decode_http_body(message);
        content.map_err(|error| problems::from_transcode(&self.endpoint, &error))
    }

    /// Writes a message.
    pub(super) fn put(&mut self, message: &Bytes) -> Result<(), Problem> {
        if self.form == Form::Raw {
            self.content = self.content(message)?.data;
        } else {
            let written = self.form.message(&self.matched, message, self.begun, &mut self.buffer);
            written.map_err(|error| problems::from_transcode(&self.endpoint, &error))?;
        }
        self.begun = true;
        Ok(())
    }

    /// Writes the end after the upstream's OK.
    pub(super) fn end(&mut self) {
        self.form.end(self.begun, &mut self.buffer);
        self.finish();
    }

    fn fail(&mut self, problem: &Problem) {
        let document = problem.document(&self.request_id);
        self.broken = !self.form.error(&document, self.begun, &mut self.buffer);
        if self.broken {
            self.timer.as_mut().reset((Instant::now() + BREAK_OFF).into());
        }
        self.finish();
    }

    /// Lets the upstream go: what is left is to write the buffer.
    fn finish(&mut self) {
        self.ended = true;
        let messages = self.source.lock().messages.take();
        // Not under the lock: it may wake others.
        drop(messages);
        self.watch.abort();
    }

    /// Takes the messages that are there.
    fn poll_source(&mut self, cx: &mut Context<'_>) {
        if self.ended || !self.content.is_empty() {
            return;
        }
        let source = Arc::clone(&self.source);
        let mut locked = source.lock();
        let now = Instant::now();
        locked.asked = now;
        locked.given = false;
        let Some(messages) = &mut locked.messages else {
            drop(locked);
            return self.fail(&problems::unread());
        };
        let mut ended = None;
        while self.buffer.len() < WRITE && self.content.is_empty() {
            let Poll::Ready(next) = messages.poll_next(cx) else { break };
            self.last_message = now;
            let put = next.map(|message| message.and_then(|message| self.put(&message)));
            if !matches!(put, Some(Ok(()))) {
                ended = Some(put);
                break;
            }
        }
        drop(locked);
        match ended {
            Some(Some(Err(problem))) => self.fail(&problem),
            Some(_) => self.end(),
            None => {}
        }
    }

    /// What is there to be written: raw content, or what its form made of messages.
    fn hand_out(&mut self) -> Bytes {
        let content = std::mem::take(&mut self.content);
        if !content.is_empty() {
            return self.unsent.hand_out(content);
        }
        self.unsent.hand_out(std::mem::take(&mut self.buffer))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        while !self.ended && self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let limits = &self.endpoint.limits;
            let idle = now >= self.last_message + limits.stream_idle;
            if idle && self.progress.as_ref().is_some_and(|progress| progress.moved()) {
                self.last_message = now;
            } else if idle || now >= self.deadline {
                self.fail(&problems::timed_out());
            } else if now >= self.last_sent + limits.heartbeat {
                self.form.heartbeat(&mut self.buffer);
                self.last_sent = now;
            }
            let next = self.next_moment();
            self.timer.as_mut().reset(next.into());
        }
    }

    fn next_moment(&self) -> Instant {
        let limits = &self.endpoint.limits;
        (self.last_sent + limits.heartbeat).min(self.last_message + limits.stream_idle).min(self.deadline)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.finish();
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.unsent.poll_room(cx).is_pending() {
            // What comes meanwhile is set aside as it comes.
            if let Some(messages) = &mut self.source.lock().messages {
                messages.set_aside(cx);
            }
            return Poll::Pending;
        }
        self.poll_source(cx);
        self.poll_timer(cx);
        if !self.buffer.is_empty() || !self.content.is_empty() {
            self.last_sent = Instant::now();
            self.source.lock().given = true;
            return Poll::Ready(Some(Ok(Frame::data(self.hand_out()))));
        }
        if self.broken {
            ready!(self.timer.as_mut().poll(cx));
            self.broken = false;
            return Poll::Ready(Some(Err("the upstream failed in the middle of its answer".into())));
        }
        if self.ended { Poll::Ready(None) } else { Poll::Pending }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && !self.broken && self.buffer.is_empty() && self.content.is_empty()
    }
}
