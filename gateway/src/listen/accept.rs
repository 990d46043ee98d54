//! Binding and accepting.

use super::{registry::Registry, serve};
use crate::{
    edge::{Connection, Listener, metrics::Metrics},
    front::Front,
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

const BACKLOG: i32 = 1024;
/// A peer that takes nothing for this long, while something is to be sent, is gone.
const STALLED: Duration = Duration::from_secs(60);
/// What the kernel takes beyond what is on the wire. Left to itself it takes megabytes for each client that does not
/// read, and what is said to one that reads slowly is old when it comes.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 << 10;

/// Binds an address; port 0 picks one.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// One listener's way of serving.
pub(crate) struct Listening {
    pub(crate) kind: Listener,
    pub(crate) registry: Arc<Registry>,
    pub(crate) front: Arc<Front>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limit: usize,
}

impl Listening {
    /// Accepts until it is dropped. Above the limit, connections wait in the kernel's queue.
    pub(crate) async fn run(self, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(self.limit));
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let (stream, client) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, mostly: others must end first.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            tune(&stream);
            let connection = Connection::new(
                self.kind,
                client,
                Arc::clone(&self.registry.shared),
                Arc::clone(&self.metrics),
            );
            let connection = Arc::new(connection);
            let entry = self.registry.enter(Arc::clone(&connection));
            let front = Arc::clone(&self.front);
            tokio::spawn(async move {
                serve::connection(stream, front, connection).await;
                drop((entry, slot));
            });
        }
    }
}

fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(STALLED));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(STALLED));
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(UNSENT);
}
