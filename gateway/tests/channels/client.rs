//! A client that speaks JSON or protobuf over any WebSocket, and keeps what is pushed to it.

use crate::support::{self, within};
use futures_util::{SinkExt, StreamExt};
use hub::proto::{ClientFrame, Command, ServerFrame, ServerMessage};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use serde_json::{Value, json};
use std::{collections::VecDeque, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::Role},
};

pub const PATH: &str = "/channels/v1/websocket";
pub const JSON: &str = "hybrid.channels.v1.json";
pub const PROTO: &str = "hybrid.channels.v1.proto";

/// A WebSocket over HTTP/1.1; `query` begins with its question mark.
pub async fn socket(at: SocketAddr, query: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{at}{PATH}{query}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(at).await.unwrap();
    let (socket, response) = within(client_async(request, stream)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    socket
}

/// The same in a stream of HTTP/2.
pub async fn socket_http2(at: SocketAddr, protocol: &str) -> WebSocketStream<TokioIo<Upgraded>> {
    let mut client = support::http2::Client::new(at).await;
    let io = client.open(PATH, &[("sec-websocket-protocol", protocol)]).await;
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

/// A client in JSON.
pub struct Client<S = TcpStream> {
    pub socket: WebSocketStream<S>,
    next: u32,
    /// What was pushed meanwhile.
    pub pushed: VecDeque<Value>,
}

impl Client<TcpStream> {
    /// A connected session of nobody in particular.
    pub async fn new(at: SocketAddr) -> Self {
        Self::open(at, json!({})).await.0
    }

    /// A connection that has said `connect`, and the reply.
    pub async fn open(at: SocketAddr, connect: Value) -> (Self, Value) {
        let mut client = Self::over(socket(at, "", JSON).await);
        let reply = client.ask(json!({"connect": connect})).await;
        (client, reply)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(socket: WebSocketStream<S>) -> Self {
        Self { socket, next: 0, pushed: VecDeque::new() }
    }

    /// Sends a command and returns its id.
    pub async fn say(&mut self, mut command: Value) -> u32 {
        self.next += 1;
        command["id"] = self.next.into();
        let frame = json!({"commands": [command]}).to_string();
        within(self.socket.send(Message::text(frame))).await.unwrap();
        self.next
    }

    /// Sends a command and waits for its reply.
    pub async fn ask(&mut self, command: Value) -> Value {
        let id = self.say(command).await;
        self.reply(id).await
    }

    pub async fn reply(&mut self, id: u32) -> Value {
        loop {
            for message in self.frame().await {
                match message["id"] == id {
                    true => return message,
                    false => self.pushed.push_back(message),
                }
            }
        }
    }

    /// The next push, or a reply that nobody waits for.
    pub async fn push(&mut self) -> Value {
        while self.pushed.is_empty() {
            let frame = self.frame().await;
            self.pushed.extend(frame);
        }
        self.pushed.pop_front().unwrap()
    }

    /// The publications of the next push that has some; what else is pushed stays in line.
    pub async fn publications(&mut self) -> Vec<Value> {
        loop {
            let found = self.pushed.iter().position(|push| push["publications"].is_object());
            match found.and_then(|at| self.pushed.remove(at)) {
                Some(push) => return push["publications"]["publications"].as_array().unwrap().clone(),
                None => {
                    let frame = self.frame().await;
                    self.pushed.extend(frame);
                }
            }
        }
    }

    /// The data of the next so many publications, in whatever frames they come.
    pub async fn published(&mut self, count: usize) -> Vec<Value> {
        let mut data = vec![];
        while data.len() < count {
            data.extend(self.publications().await.iter().map(|it| it["data"]["json"].clone()));
        }
        data
    }

    async fn frame(&mut self) -> Vec<Value> {
        loop {
            match within(self.socket.next()).await.unwrap().unwrap() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    return frame["messages"].as_array().unwrap().clone();
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The code and reason of the close frame that comes, whatever comes before it.
    pub async fn closed(mut self) -> (u16, Value) {
        close_of(&mut self.socket).await
    }

    pub async fn subscribe(&mut self, channel: &str) -> Value {
        self.ask(json!({"subscribe": {"channel": channel}})).await["subscribed"].clone()
    }

    pub async fn publish(&mut self, channel: &str, data: Value) -> Value {
        self.ask(json!({"publish": {"channel": channel, "data": {"json": data}}})).await
    }
}

/// The code and reason of the close frame that comes.
pub async fn close_of<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> (u16, Value) {
    loop {
        match within(socket.next()).await.expect("a close frame").expect("a close frame") {
            Message::Close(Some(frame)) => {
                return (frame.code.into(), serde_json::from_str(&frame.reason).unwrap_or_default());
            }
            Message::Close(None) => panic!("a close frame without a code"),
            _ => {}
        }
    }
}

/// Says a command in protobuf.
pub async fn say_proto<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, command: Command) {
    let frame = ClientFrame { commands: vec![command] };
    within(socket.send(Message::binary(frame.encode_to_vec()))).await.unwrap();
}

/// The messages of the next frame in protobuf.
pub async fn hear_proto<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
) -> Vec<ServerMessage> {
    match within(socket.next()).await.unwrap().unwrap() {
        Message::Binary(frame) => ServerFrame::decode(frame).unwrap().messages,
        other => panic!("{other:?}"),
    }
}
