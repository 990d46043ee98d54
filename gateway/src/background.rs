//! Long work that is to delay no request: it runs on a thread of its own, which the scheduler puts after those that
//! serve. On a single core an equal thread would hold requests up for a time slice, several milliseconds, at once.

use std::{io, thread};
use tokio::{runtime::Handle, sync::oneshot};

/// What the threads give way by: a tenth of an equal thread's time where others want all of it.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Does `work` on a thread of that name, within the runtime. An error says that there is no thread, or that it panicked.
pub(crate) async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (runtime, (done, result)) = (Handle::current(), oneshot::channel());
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _within = runtime.enter();
        give_way();
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| io::Error::other("the thread panicked"))
}

/// Linux has a nice value for each thread.
fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap()
    }

    #[tokio::test]
    async fn the_thread_gives_way_and_the_others_do_not() {
        let before = nice();
        assert_eq!(run("test", nice).await.unwrap(), before.max(NICE));
        assert_eq!(nice(), before);
        assert!(run("test", || panic!("as it should")).await.is_err());
    }
}
