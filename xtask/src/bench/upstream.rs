//! A fast upstream for the benchmarks: canned HTTP responses and a WebSocket echo over raw TCP.
//! It does the least that a proxy accepts, so that the proxy is what is measured.

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The key of RFC 6455's example, which our load generator sends, so that its answer is a constant.
pub(super) const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Serves until killed. `…/N` is answered with N bytes; an upgrade is answered with an echo.
pub(super) async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    super::helper::say(&serde_json::json!({"port": listener.local_addr()?.port()}))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream));
    }
}

/// An error only says that the proxy closed the connection.
async fn connection(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    let (mut size, mut response) = (usize::MAX, Vec::new());
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        if is_upgrade(&buffer[..head]) {
            return echo(stream).await;
        }
        let wanted = wanted_size(&buffer[..head]);
        if wanted != size {
            (size, response) = (wanted, canned(wanted));
        }
        buffer.drain(..head);
        stream.write_all(&response).await?;
    }
}

fn is_upgrade(head: &[u8]) -> bool {
    let name = b"\r\nupgrade:";
    head.windows(name.len()).any(|w| w.eq_ignore_ascii_case(name))
}

/// The number at the end of the path; 2 where there is none (a health check).
fn wanted_size(head: &[u8]) -> usize {
    let path = head.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let last = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    std::str::from_utf8(last).ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn canned(size: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n\r\n");
    let mut response = head.into_bytes();
    response.resize(response.len() + size, b'x');
    response
}

/// Sends each (masked, short) frame back unmasked.
async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let (mut input, mut output) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    while stream.read_buf(&mut input).await? > 0 {
        let mut used = 0;
        while let Some(frame) = unmask(&input[used..], &mut output) {
            used += frame;
        }
        input.drain(..used);
        stream.write_all(&output).await?;
        output.clear();
    }
    Ok(())
}

/// Appends the first frame of `input`, unmasked; its length, or `None` while it is incomplete.
fn unmask(input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    let length = usize::from(second & 0x7f);
    debug_assert!(length < 126, "the load generator sends short frames");
    let payload = input.get(6..6 + length)?;
    output.extend([first, second & 0x7f]);
    output.extend(payload.iter().zip(input[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Some(6 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_says_the_size() {
        assert_eq!(wanted_size(b"GET /api/bench/10240 HTTP/1.1\r\n\r\n"), 10240);
        assert_eq!(wanted_size(b"GET /readyz HTTP/1.1\r\n\r\n"), 2);
    }

    #[test]
    fn a_frame_is_unmasked_once_it_is_whole() {
        let frame = [0x82, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
        let mut output = Vec::new();
        assert_eq!(unmask(&frame[..7], &mut output), None);
        assert_eq!(unmask(&frame, &mut output), Some(8));
        assert_eq!(output, [0x82, 2, b'h', b'i']);
    }
}
