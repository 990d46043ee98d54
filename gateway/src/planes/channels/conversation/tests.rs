//! What goes to a client that takes nothing, in virtual time.

use super::*;
use std::task::Waker;
use tokio::io::{AsyncReadExt, duplex};

fn mouth() -> Mouth {
    let mut pending = Pending::default();
    pending.push(Bytes::from_static(&[7; 100]));
    Mouth { pending, patience: Duration::from_secs(10), stalled: None }
}

#[tokio::test(start_paused = true)]
async fn a_write_without_progress_ends_after_its_time_and_progress_begins_it_anew() {
    let (mut io, mut client) = duplex(10);
    let mut mouth = mouth();
    let begun = Instant::now();
    let writing = tokio::spawn(async move {
        let end = poll_fn(|cx| mouth.poll(cx, &mut io)).await;
        (matches!(end, Err(End::Gone)), io)
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(8)).await;
        client.read_exact(&mut [0; 10]).await.unwrap();
    }
    let (gone, _io) = writing.await.unwrap();
    assert!(gone);
    let passed = begun.elapsed();
    assert!(Duration::from_secs(33) < passed && passed < Duration::from_secs(35), "{passed:?}");
}

#[tokio::test(start_paused = true)]
async fn no_timer_runs_while_nothing_waits() {
    let (mut io, mut client) = duplex(1_000);
    let mut mouth = mouth();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(mouth.poll(&mut cx, &mut io), Poll::Ready(Ok(()))));
    assert!(mouth.stalled.is_none() && mouth.pending.is_empty());
    let mut got = [0; 100];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(got, [7; 100]);
}
