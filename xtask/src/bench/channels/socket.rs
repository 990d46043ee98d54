//! A WebSocket client of which one process holds thousands: it keeps no buffer while nothing comes, and gives frames
//! as they are. It is strict where a server could be wrong, and sends whatever a test wants to send.

use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The key of RFC 6455's example, whose answer is a constant.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
/// For the handshake, under a storm of them.
const PATIENCE: Duration = Duration::from_secs(30);

thread_local! {
    /// What sockets read into: one for all of a thread, since each empties it at once.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; 64 * 1024]);
}

/// A frame's kind, and its bytes: a message, or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Text or binary.
    Message(&'a [u8]),
    /// The server says goodbye: code and reason.
    Close(u16, &'a [u8]),
    /// To be answered by a pong.
    Ping(&'a [u8]),
    /// The answer to a ping.
    Pong,
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Where in `buffer` the next frame begins.
    start: usize,
    /// Frames are the chunks of an HTTP response.
    chunked: bool,
}

impl Socket {
    /// Opens `path` at `address`, with further request headers, each ended by CRLF.
    pub async fn open(address: &str, path: &str, subprotocol: &str, headers: &str) -> Result<Self> {
        let opening = Self::handshake(address, path, subprotocol, headers);
        tokio::time::timeout(PATIENCE, opening)
            .await
            .with_context(|| format!("no handshake in {PATIENCE:?}"))?
    }

    async fn handshake(address: &str, path: &str, subprotocol: &str, headers: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await.context("connect")?;
        stream.set_nodelay(true)?;
        let subprotocol = match subprotocol {
            "" => String::new(),
            name => format!("sec-websocket-protocol: {name}\r\n"),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}{subprotocol}connection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
        );
        let (head, buffer, start) = exchange(&mut stream, &request).await?;
        ensure!(head.starts_with("HTTP/1.1 101"), "no upgrade: {}", head.lines().next().unwrap_or_default());
        ensure!(head.contains(ACCEPT), "a wrong answer to the key: {head}");
        Ok(Self { stream, buffer, start, chunked: false })
    }

    /// Reads a streaming HTTP response instead: each of its chunks is a frame.
    pub async fn response(address: &str, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await.context("connect")?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        let (head, buffer, start) = exchange(&mut stream, &request).await?;
        let streams = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        ensure!(head.starts_with("HTTP/1.1 200") && streams, "no stream: {head}");
        Ok(Self { stream, buffer, start, chunked: true })
    }

    /// The next frame. An error is the end of the connection, or a frame that no server may send.
    pub async fn frame(&mut self) -> Result<Frame<'_>> {
        loop {
            if let Some((opcode, from, to)) = self.parse()? {
                self.start = if self.chunked { to + 2 } else { to };
                let payload = &self.buffer[from..to];
                return Ok(match opcode {
                    0..=2 => Frame::Message(payload),
                    8 if payload.len() >= 2 => {
                        Frame::Close(u16::from_be_bytes([payload[0], payload[1]]), &payload[2..])
                    }
                    8 => Frame::Close(1005, &[]),
                    9 => Frame::Ping(payload),
                    10 => Frame::Pong,
                    other => bail!("a frame with opcode {other}"),
                });
            }
            ensure!(self.fill().await? > 0, "the connection ended without a close frame");
        }
    }

    fn parse(&self) -> Result<Option<(u8, usize, usize)>> {
        if self.chunked { chunk(&self.buffer, self.start) } else { parse(&self.buffer, self.start) }
    }

    async fn fill(&mut self) -> Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 128 * 1024 {
            self.buffer = Vec::new();
        }
        loop {
            self.stream.readable().await?;
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let count = self.stream.try_read(scratch)?;
                self.buffer.extend_from_slice(&scratch[..count]);
                Ok::<_, std::io::Error>(count)
            });
            match read {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => return other.context("read"),
            }
        }
    }

    /// Sends a whole message, masked as clients must.
    pub async fn send(&mut self, text: bool, message: &[u8]) -> Result<()> {
        self.send_frame(if text { 0x81 } else { 0x82 }, message).await
    }

    /// Sends a frame with this first byte.
    pub async fn send_frame(&mut self, first: u8, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frame.push(first);
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
        self.send_raw(&frame).await
    }

    /// Sends bytes as they are, whatever they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("write")
    }

    /// Drops the connection as a lost network does: with a reset, and no close frame.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Makes the kernel hold little for this socket: for readers that stall.
    pub fn small_window(&self) -> Result<()> {
        Ok(socket2::SockRef::from(&self.stream).set_recv_buffer_size(4096)?)
    }
}

/// Sends a request; the response's head, everything read so far, and where in it the body begins.
async fn exchange(stream: &mut TcpStream, request: &str) -> Result<(String, Vec<u8>, usize)> {
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = Vec::with_capacity(512);
    loop {
        if let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            return Ok((head, buffer, end + 4));
        }
        let count = stream.read_buf(&mut buffer).await?;
        ensure!(count > 0, "closed in the handshake after {:?}", String::from_utf8_lossy(&buffer));
    }
}

/// The chunk at `start`, as [`parse`] gives a frame; the last one closes.
fn chunk(buffer: &[u8], start: usize) -> Result<Option<(u8, usize, usize)>> {
    let Some(end) = memchr::memmem::find(&buffer[start..], b"\r\n") else { return Ok(None) };
    let size = std::str::from_utf8(&buffer[start..start + end])?;
    let size = usize::from_str_radix(size, 16).with_context(|| format!("{size:?} is no chunk's size"))?;
    let from = start + end + 2;
    let whole = buffer.len() >= from + size + 2;
    Ok(whole.then_some((if size == 0 { 8 } else { 1 }, from, from + size)))
}

/// The frame at `start`, if all of it is there: opcode, and where its payload begins and ends.
fn parse(buffer: &[u8], start: usize) -> Result<Option<(u8, usize, usize)>> {
    let bytes = &buffer[start..];
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    ensure!(first & 0x70 == 0, "reserved bits are set: {first:#x}");
    ensure!(second & 0x80 == 0, "a server's frame is masked");
    let (header, length) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        (127, bytes) if bytes.len() >= 8 => {
            let mut length = [0; 8];
            length.copy_from_slice(&bytes[..8]);
            (10, usize::try_from(u64::from_be_bytes(length))?)
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (2, usize::from(length)),
    };
    let from = start + header;
    let whole = buffer.len() >= from + length;
    Ok(whole.then_some((first & 0x0f, from, from + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_wherever_they_are_cut() {
        for length in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let mut frame = vec![0x82];
            match length {
                0..126 => frame.push(length as u8),
                126..65_536 => {
                    frame.push(126);
                    frame.extend((length as u16).to_be_bytes());
                }
                _ => {
                    frame.push(127);
                    frame.extend((length as u64).to_be_bytes());
                }
            }
            let header = frame.len();
            frame.resize(header + length, b'x');
            for cut in [0, 1, header - 1, header].into_iter().filter(|cut| *cut < frame.len()) {
                assert_eq!(parse(&frame[..cut], 0).expect("so far good"), None, "{length} cut at {cut}");
            }
            assert_eq!(parse(&frame, 0).expect("good"), Some((2, header, header + length)));
        }
    }

    #[test]
    fn chunks_are_frames() {
        let body = b"3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(chunk(body, 0).expect("a chunk"), Some((1, 3, 6)));
        assert_eq!(chunk(body, 8).expect("the last one"), Some((8, 11, 11)));
        assert_eq!(chunk(&body[..7], 0).expect("a part"), None);
    }

    #[test]
    fn what_no_server_may_send_is_an_error() {
        assert!(parse(&[0x82, 0x80, 0, 0, 0, 0], 0).is_err(), "masked");
        assert!(parse(&[0xc2, 0], 0).is_err(), "reserved bits");
    }
}
