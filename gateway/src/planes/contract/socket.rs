//! An open WebSocket and its call. Frames become messages and messages frames, each direction at its own pace, with
//! one message between the two at most; a clock watches both.

use super::{
    inbound::{Agreed, End, Inbound},
    messages::{Call, Messages},
    piped::{Item, piped},
    problems,
    pulse::Pulse,
    websocket::{Stream, Wire},
};
use crate::edge::Problem;
use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
use std::time::{Duration, Instant};
use tokio::{
    sync::mpsc::Sender,
    time::{MissedTickBehavior, interval_at},
};
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

/// For the last frames and the client's answer to them.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a socket needs for its life.
pub(super) struct Socket {
    pub(super) call: Call,
    pub(super) inbound: Inbound,
    /// The first message, where no frame is needed for it.
    pub(super) bound: Option<Bytes>,
    pub(super) agreed: Agreed,
    pub(super) request_id: String,
    pub(super) deadline: Instant,
    pub(super) stop: CancellationToken,
}

type Frames = SplitStream<Stream>;
type Sink = SplitSink<Stream, Message>;

impl Socket {
    /// Carries the call until one side ends it, and says goodbye.
    pub(super) async fn run(self, stream: Stream) {
        let Self { call, mut inbound, bound, agreed, request_id, deadline, stop } = self;
        let (mut sink, mut frames) = stream.split();
        let pulse = Pulse::new(&inbound.endpoint.limits, deadline);
        let (feed, body) = piped();
        let heartbeat = inbound.endpoint.limits.heartbeat;
        let down = Down {
            endpoint: inbound.endpoint.clone(),
            matched: inbound.matched.clone(),
            agreed: &agreed,
            pulse: &pulse,
        };
        // Whichever ends first, the others are dropped with the call before the goodbye.
        let end = tokio::select! {
            end = up(&mut inbound, bound, &mut frames, feed, &agreed, &pulse) => end,
            end = down.run(call.open(body, None), &mut sink, heartbeat) => end,
            end = pulse.watch() => end,
            () = stop.cancelled() => End::GoingAway,
        };
        let goodbye = goodbye(end, &request_id, sink, frames);
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

/// The client's frames to the upstream.
async fn up(
    inbound: &mut Inbound,
    bound: Option<Bytes>,
    frames: &mut Frames,
    feed: Sender<Item>,
    agreed: &Agreed,
    pulse: &Pulse,
) -> End {
    let streaming = inbound.endpoint.method.is_client_streaming();
    let mut feed = Some(feed);
    let mut item = bound.map(Item::Message);
    loop {
        if let Some(next) = item.take() {
            let ends = matches!(next, Item::End);
            match &feed {
                Some(feed) => {
                    pulse.deaf(true);
                    // Where the call is over, its end is on its way.
                    let _ = feed.send(next).await;
                    if !streaming && !ends {
                        let _ = feed.send(Item::End).await;
                    }
                    pulse.deaf(false);
                    pulse.moved();
                }
                None if ends => {}
                None => return problems::no_more_messages(streaming).into(),
            }
            if ends || !streaming {
                feed = None;
            }
        }
        let frame = frames.next().await;
        pulse.heard();
        item = match inbound.read(frame, agreed) {
            Ok(item) => item,
            Err(end) => return end,
        };
    }
}

/// The upstream's messages to the client.
struct Down<'a> {
    endpoint: std::sync::Arc<super::Endpoint>,
    matched: std::sync::Arc<transcode::Matched>,
    agreed: &'a Agreed,
    pulse: &'a Pulse,
}

impl Down<'_> {
    async fn run(self, mut messages: Messages, sink: &mut Sink, heartbeat: Duration) -> End {
        let mut beat = interval_at(tokio::time::Instant::now() + heartbeat, heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Messages that are there already share a write.
            let next = match messages.next().now_or_never() {
                Some(next) => next,
                None => {
                    if sink.flush().await.is_err() {
                        return End::Left;
                    }
                    tokio::select! {
                        next = messages.next() => next,
                        _ = beat.tick() => match sink.send(Message::Ping(Bytes::new())).await {
                            Ok(()) => continue,
                            Err(_) => return End::Left,
                        },
                    }
                }
            };
            let frame = match next {
                None => return End::Done,
                Some(message) => match message.and_then(|message| self.frame(message)) {
                    Ok(frame) => frame,
                    Err(problem) => return problem.into(),
                },
            };
            if sink.feed(frame).await.is_err() {
                return End::Left;
            }
            self.pulse.moved();
        }
    }

    fn frame(&self, message: Bytes) -> Result<Message, Problem> {
        if self.agreed.wire() == Wire::Proto {
            return Ok(Message::Binary(message));
        }
        let json = self.matched.decode_response(&message);
        let json = json.map_err(|error| problems::from_transcode(&self.endpoint, &error))?;
        Ok(Message::Text(text(json)))
    }
}

/// JSON as a frame's text.
fn text(json: Vec<u8>) -> Utf8Bytes {
    Utf8Bytes::try_from(Bytes::from(json)).unwrap_or_default()
}

/// The last frames, and whatever the client still sends until it agrees.
async fn goodbye(end: End, request_id: &str, mut sink: Sink, mut frames: Frames) {
    let (code, reason) = match &end {
        End::Left => (None, ""),
        End::Done => (Some(1000), ""),
        End::GoingAway => (Some(1001), "the gateway is stopping"),
        End::Failed(problem, code) => {
            (Some(code.unwrap_or(4000 + problem.code().status())), problem.code().name())
        }
    };
    if let End::Failed(problem, _) = &end {
        let document = problem.document(request_id);
        let error = [&b"{\"error\":"[..], &document, b"}"].concat();
        let _ = sink.feed(Message::Text(text(error))).await;
    }
    if let Some(code) = code {
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) };
        let _ = sink.send(Message::Close(Some(frame))).await;
    }
    while frames.next().await.is_some_and(|frame| frame.is_ok()) {}
}
