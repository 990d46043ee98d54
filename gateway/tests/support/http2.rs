//! WebSockets over HTTP/2: a client that opens them by extended CONNECT, and one that writes its frames by hand.

use super::within;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
    ext::Protocol,
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{net::SocketAddr, pin::Pin, task::Poll, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection whose other end has said that it knows extended CONNECT.
pub struct Client {
    to: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
}

impl Client {
    pub async fn new(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let builder = Builder::new(TokioExecutor::new());
        let (sender, mut connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        within(async {
            while !connection.is_extended_connect_protocol_enabled() {
                std::future::poll_fn(|cx| {
                    let _ = Pin::new(&mut connection).poll(cx);
                    Poll::Ready(())
                })
                .await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        tokio::spawn(connection);
        Self { to, sender }
    }

    /// The answer to an extended CONNECT for a WebSocket.
    pub async fn ask(&mut self, path: &str, headers: &[(&'static str, &str)]) -> Response<Incoming> {
        self.ask_for("websocket", path, headers).await
    }

    pub async fn ask_for(
        &mut self,
        protocol: &'static str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Response<Incoming> {
        let request = Request::builder().method(Method::CONNECT).uri(format!("http://{}{path}", self.to));
        let request = request.extension(Protocol::from_static(protocol));
        let mut request = request.body(Empty::new()).unwrap();
        for (name, value) in [("sec-websocket-version", "13")].iter().chain(headers) {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        within(self.sender.send_request(request)).await.unwrap()
    }

    pub async fn open(&mut self, path: &str, headers: &[(&'static str, &str)]) -> TokioIo<Upgraded> {
        let response = self.ask(path, headers).await;
        assert_eq!(response.status().as_u16(), 200);
        TokioIo::new(within(hyper::upgrade::on(response)).await.unwrap())
    }

    /// Another request over the same connection.
    pub async fn get(&mut self, path: &str) -> Response<Incoming> {
        let request = Request::get(format!("http://{}{path}", self.to)).body(Empty::new()).unwrap();
        within(self.sender.send_request(request)).await.unwrap()
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

/// A WebSocket in the first stream of a connection, in frames written by hand (RFC 9113, section 4.1).
pub struct ByHand(TcpStream);

impl ByHand {
    pub async fn open(to: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let authority = to.to_string();
        let mut block = vec![];
        for (name, value) in [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", &authority),
            ("sec-websocket-version", "13"),
        ] {
            // Literals that no table holds (RFC 7541, section 6.2.2).
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend_from_slice(text.as_bytes());
            }
        }
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut socket = Self(stream);
        socket.write(SETTINGS, 0, 0, &[]).await;
        const END_HEADERS: u8 = 4;
        socket.write(HEADERS, END_HEADERS, 1, &block).await;
        let head = socket.read(HEADERS).await;
        assert_eq!(head[0], 0x88, "not `:status: 200`: {head:?}");
        socket
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame of this kind.
    async fn read(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 9];
            within(self.0.read_exact(&mut head)).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            within(self.0.read_exact(&mut payload)).await.unwrap();
            if head[3] == kind {
                return payload;
            }
        }
    }

    pub async fn send(&mut self, data: &[u8]) {
        self.write(DATA, 0, 1, data).await;
    }

    pub async fn receive(&mut self) -> Vec<u8> {
        self.read(DATA).await
    }

    /// Ends the stream with an error, and keeps the connection.
    pub async fn reset(&mut self) {
        const CANCEL: u32 = 8;
        self.write(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()).await;
    }
}
