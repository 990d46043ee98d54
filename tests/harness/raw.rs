//! HTTP/1.1 over a bare socket, for what a good client library refuses to do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::wait::within;

/// How a client goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It says that it sends no more (FIN).
    Fin,
    /// It resets the connection (RST).
    Rst,
}

/// A connection with its bytes read so far.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    received: String,
}

impl Raw {
    /// Connects and sends `request` as it is.
    pub async fn send(address: &str, request: &str) -> Result<Self> {
        let mut stream =
            TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        // A server that refuses early may close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        Ok(Self { stream, received: String::new() })
    }

    /// Reads until `text` was received; gives everything received so far.
    pub async fn until(&mut self, text: &str) -> Result<&str> {
        let what = format!("{text:?} from the server");
        within(&what, Duration::from_secs(10), async {
            while !self.received.contains(text) {
                let mut buffer = [0; 4096];
                let count = self.stream.read(&mut buffer).await?;
                ensure!(count > 0, "closed after {:?}", self.received);
                self.received.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
            Ok(())
        })
        .await
        .with_context(|| format!("received {:?}", self.received))?;
        Ok(&self.received)
    }

    /// The response's status.
    pub async fn status(&mut self) -> Result<u16> {
        let head = self.until("\r\n\r\n").await?;
        head.split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("no status in {head:?}"))
    }

    /// Goes away; the returned socket (after FIN) is to be kept until the test is over.
    pub async fn leave(mut self, how: Leave) -> Result<Option<TcpStream>> {
        match how {
            Leave::Fin => {
                self.stream.shutdown().await?;
                Ok(Some(self.stream))
            }
            Leave::Rst => {
                socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                Ok(None)
            }
        }
    }
}
