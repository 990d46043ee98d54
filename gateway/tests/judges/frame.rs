//! A server that says what it hears, with the reader of the channels' frames in it. Channels themselves have no echo to
//! be judged by.
#![allow(dead_code)] // The reader's own tests run with the gateway's.

#[path = "../../src/planes/channels/frame.rs"]
mod reader;

use super::support::{self, Upstream, read_head};
use bytes::Bytes;
use reader::{Fault, Heard, Reader};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Larger than any case's message.
const LIMIT: usize = 64 << 20;

/// Why it ends, as the channels' sockets say it.
enum End {
    Left(Option<u16>),
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(crate) async fn echo() -> Upstream {
    support::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        });
        // A judge's connection that breaks ends its case only.
        let _ = talk(stream, &key.unwrap_or_default()).await;
    })
    .await
}

async fn talk(mut stream: TcpStream, key: &str) -> std::io::Result<()> {
    let accept = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut reader, mut buffer) = (Reader::default(), vec![0; 64 << 10]);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut answer = vec![];
        let heard = reader.read(&mut buffer[..read], LIMIT, |heard| {
            match heard {
                Heard::Text(text) => framed(0x81, text, &mut answer),
                Heard::Binary(bytes) => framed(0x82, bytes, &mut answer),
                Heard::Ping(payload) => answer.extend_from_slice(&reader::pong(payload)),
                Heard::Pong => {}
                Heard::Close(code) => return Err(End::Left(code)),
            }
            Ok(())
        });
        let close: Option<Bytes> = heard.err().map(|end| match end {
            End::Left(code) => reader::close(code.unwrap_or(1000), ""),
            End::Fault(Fault::Protocol(wrong)) => reader::close(1002, wrong),
            End::Fault(Fault::NotUtf8) => reader::close(1007, "text is not UTF-8"),
            End::Fault(Fault::TooLarge) => reader::close(1009, ""),
        });
        answer.extend_from_slice(close.as_deref().unwrap_or_default());
        stream.write_all(&answer).await?;
        if close.is_some() {
            stream.shutdown().await?;
            while stream.read(&mut buffer).await? > 0 {}
            return Ok(());
        }
    }
}

/// A server's frame.
fn framed(first: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    match content.len() {
        short @ 0..126 => out.push(short as u8),
        long @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(long as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(content);
}
