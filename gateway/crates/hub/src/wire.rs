//! How bytes for a client are written.

/// The encoding and framing of one connection; a push is encoded once for all connections with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// WebSocket text messages, with their headers.
    WebSocketJson,
    /// WebSocket binary messages, with their headers.
    WebSocketProtobuf,
    /// Server-sent events in JSON, without their `id:` lines.
    EventStream,
}
