//! Runs tests: a group shares one stack, which is started for its first test and ended with its last.

use std::{
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::{Builder, Runtime};

use crate::Sut;

/// Longer than any test takes.
const BOUND: Duration = Duration::from_secs(90);

/// A stack that the tests of one group share.
#[derive(Clone)]
pub struct Shared {
    start: fn() -> Result<Arc<Sut>>,
    stack: Arc<Mutex<Option<Arc<Sut>>>>,
}

/// Tests that share a stack.
pub struct Group {
    name: &'static str,
    shared: Shared,
    one_by_one: bool,
    /// Whether every process is to run before each test.
    whole: bool,
    trials: Vec<Trial>,
}

impl Group {
    /// Tests that leave the stack as it was: they run at the same time.
    pub fn parallel(name: &'static str) -> Self {
        Self::new(name, Sut::start, false, false)
    }

    /// Tests that break the stack or measure time: one after the other, each on a stack that runs in full.
    pub fn serial(name: &'static str) -> Self {
        Self::new(name, Sut::start, true, true)
    }

    /// Tests of the gateway without any upstream.
    pub fn gateway_alone(name: &'static str) -> Self {
        Self::new(name, Sut::start_gateway, true, false)
    }

    fn new(name: &'static str, start: fn() -> Result<Arc<Sut>>, one_by_one: bool, whole: bool) -> Self {
        Self { name, shared: Shared { start, stack: Arc::default() }, one_by_one, whole, trials: Vec::new() }
    }

    /// Adds a test, named as a sentence.
    pub fn test<F, Fut>(mut self, name: &str, test: F) -> Self
    where
        F: FnOnce(Arc<Sut>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.trials.push(self.trial(name, BOUND, test));
        self
    }

    /// Adds a test that may take longer than others.
    pub fn long_test<F, Fut>(mut self, name: &str, bound: Duration, test: F) -> Self
    where
        F: FnOnce(Arc<Sut>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.trials.push(self.trial(name, bound, test));
        self
    }

    fn trial<F, Fut>(&self, name: &str, bound: Duration, test: F) -> Trial
    where
        F: FnOnce(Arc<Sut>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let (shared, heal) = (self.shared.clone(), self.whole);
        Trial::test(format!("{}::{name}", self.name), move || {
            let sut =
                shared.get().map_err(|error| Failed::from(format!("the stack did not start: {error:#}")))?;
            if heal {
                sut.heal().map_err(|error| Failed::from(format!("the stack did not recover: {error:#}")))?;
            }
            let outcome = run(bound, test(Arc::clone(&sut)));
            outcome.map_err(|error| Failed::from(format!("{error:#}{}", sut.last_lines())))
        })
    }

    /// Runs the group's tests that the arguments select, then ends its stack; whether none failed.
    pub fn run(self, arguments: &Arguments) -> bool {
        let mut arguments = arguments.clone();
        if self.one_by_one {
            arguments.test_threads = Some(1);
        }
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        self.shared.stop();
        !conclusion.has_failed()
    }
}

impl Shared {
    /// The stack; started by whoever comes first.
    fn get(&self) -> Result<Arc<Sut>> {
        let mut stack = self.stack.lock().unwrap_or_else(PoisonError::into_inner);
        match &*stack {
            Some(sut) => Ok(Arc::clone(sut)),
            None => Ok(Arc::clone(stack.insert((self.start)()?))),
        }
    }

    fn stop(&self) {
        self.stack.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn run(bound: Duration, test: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    runtime()?.block_on(async {
        // A task of its own, so that a panic is a failure like any other and shows the services' lines too.
        match tokio::time::timeout(bound, tokio::spawn(test)).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => bail!("{panic}"),
            Err(_) => bail!("the test did not end within {bound:?}"),
        }
    })
}

/// One for all tests: the stack's client keeps connections, which live as long as their runtime.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build());
    runtime.as_ref().map_err(|error| anyhow!("no runtime: {error}"))
}
