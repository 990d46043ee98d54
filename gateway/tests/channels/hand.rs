//! A WebSocket in frames written by hand, for what no client's library would send.

use crate::{client::PATH, support};
use std::net::SocketAddr;
use support::{open, read_head, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const PING: u8 = 0x89;

/// A socket after its handshake.
pub struct ByHand(pub TcpStream);

impl ByHand {
    pub async fn new(at: SocketAddr) -> Self {
        let head = format!(
            "GET {PATH} HTTP/1.1\r\nhost: HOST\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        let mut stream = open(at, &head).await;
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 101"));
        Self(stream)
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        within(self.0.write_all(bytes)).await.unwrap();
    }

    /// The next frame: its first byte and its content.
    pub async fn read(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        within(self.0.read_exact(&mut head)).await.unwrap();
        let length = match head[1] {
            126 => u64::from(within(self.0.read_u16()).await.unwrap()),
            127 => within(self.0.read_u64()).await.unwrap(),
            short => u64::from(short),
        };
        let mut content = vec![0; usize::try_from(length).unwrap()];
        within(self.0.read_exact(&mut content)).await.unwrap();
        (head[0], content)
    }

    /// The code of the close frame that comes, after which the connection ends.
    pub async fn closed(mut self) -> u16 {
        loop {
            let (first, content) = self.read().await;
            if first == 0x88 {
                assert_eq!(within(self.0.read(&mut [0; 1])).await.unwrap(), 0, "nothing after it");
                return u16::from_be_bytes([content[0], content[1]]);
            }
        }
    }
}

/// A client's frame, masked.
pub fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mask = [9, 8, 7, 6];
    let mut frame = vec![first];
    match content.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
        long => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
