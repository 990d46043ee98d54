//! What a client says and hears over a WebSocket, whatever carries it.

use crate::support::within;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

pub async fn say<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, text: &str) {
    within(socket.send(Message::text(text))).await.unwrap();
}

/// The next frame that is not about the connection.
pub async fn hear<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Message {
    loop {
        match within(socket.next()).await.unwrap().unwrap() {
            Message::Ping(_) | Message::Pong(_) => {}
            frame => return frame,
        }
    }
}

pub async fn hear_json<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Value {
    serde_json::from_str(hear(socket).await.to_text().unwrap()).unwrap()
}

/// The code of the next frame, which closes.
pub async fn closed<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> u16 {
    match hear(socket).await {
        Message::Close(Some(frame)) => frame.code.into(),
        other => panic!("expected a close frame, not {other:?}"),
    }
}
