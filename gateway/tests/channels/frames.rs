//! Frames as no library would send them: cut, malformed, of the wrong kind, too large.

use crate::{
    app::{App, edge},
    hand::{BINARY, ByHand, PING, TEXT, frame},
    support::{Edge, get, within},
};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

const CONNECT: &[u8] = br#"{"commands":[{"id":1,"connect":{}}]}"#;

/// So many connections were closed for what they sent.
async fn assert_counted(edge: &Edge, closed: u64) {
    let metrics = get(edge.at.admin, "/metrics").await;
    let text = std::str::from_utf8(&metrics.body).unwrap();
    let line = format!("gateway_channels_closed_total{{code=\"bad_frame\"}} {closed}\n");
    assert!(text.contains(&line), "{text}");
}

/// The code that a connected client gets for these bytes.
async fn closed_for(edge: &Edge, bytes: &[u8]) -> u16 {
    let mut socket = ByHand::new(edge.at.public).await;
    socket.write(&frame(TEXT, CONNECT)).await;
    assert_eq!(socket.read().await.0, TEXT);
    socket.write(bytes).await;
    socket.closed().await
}

#[tokio::test]
async fn a_frame_that_is_cut_at_every_byte_is_one_frame() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let mut socket = ByHand::new(edge.at.public).await;
    let bytes = [frame(0x01, &CONNECT[..9]), frame(PING, b"here"), frame(0x80, &CONNECT[9..])].concat();
    for byte in bytes {
        within(socket.0.write_all(&[byte])).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(socket.read().await, (0x8a, b"here".to_vec()), "the pong");
    let (first, content) = socket.read().await;
    let reply: Value = serde_json::from_slice(&content).unwrap();
    assert_eq!((first, &reply["messages"][0]["id"]), (TEXT, &1.into()));
}

#[tokio::test]
async fn what_is_no_websocket_is_closed_with_the_protocols_codes() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    assert_eq!(closed_for(&edge, &[TEXT, 1, b'x']).await, 1002, "not masked");
    assert_eq!(closed_for(&edge, &frame(0xf1, b"x")).await, 1002, "reserved bits");
    assert_eq!(closed_for(&edge, &frame(TEXT, b"\xff")).await, 1007, "not UTF-8");
    assert_counted(&edge, 3).await;
    assert_eq!(closed_for(&edge, &frame(0x88, &1001u16.to_be_bytes())).await, 1001, "a goodbye");
    assert_eq!(closed_for(&edge, &frame(0x88, b"")).await, 1000);
}

#[tokio::test]
async fn what_is_no_frame_of_ours_is_closed_for_good() {
    let edge = edge("frame_bytes = 2000").await;
    let _app = App::attach(&edge).await;
    assert_eq!(closed_for(&edge, &frame(TEXT, b"{")).await, 4501);
    assert_eq!(closed_for(&edge, &frame(TEXT, b"[1]")).await, 4501);
    assert_eq!(closed_for(&edge, &frame(BINARY, b"")).await, 4501, "of the other encoding");
    assert_eq!(closed_for(&edge, &frame(TEXT, &[b' '; 2_001])[..8]).await, 4501, "too large, by its head");
    let mut socket = ByHand::new(edge.at.public).await;
    socket.write(&frame(TEXT, br#"{"commands":[{"id":1,"ping":{}}]}"#)).await;
    assert_eq!(socket.closed().await, 4501, "before connect");
    assert_counted(&edge, 5).await;
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_read() {
    let edge = edge("").await;
    let _app = App::attach(&edge).await;
    let head = format!(
        "GET {} HTTP/1.1\r\nhost: HOST\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        crate::client::PATH
    );
    let host = edge.at.public.to_string();
    let bytes = [head.replace("HOST", &host).as_bytes(), &frame(TEXT, CONNECT)].concat();
    let mut stream = tokio::net::TcpStream::connect(edge.at.public).await.unwrap();
    within(stream.write_all(&bytes)).await.unwrap();
    assert!(crate::support::read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
    assert_eq!(ByHand(stream).read().await.0, TEXT);
}
