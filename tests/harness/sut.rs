//! The system under test: the stack of `stack.toml` on free ports, with its state in a temporary folder.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, RequestBuilder, Response, header::HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::stack::{Options, Phase, Profile, Signal, Stack};

use crate::{
    collab::Collab,
    grpc::{Contracts, Grpc},
    metrics::Metrics,
    tokens,
};

/// A running stack; dropped, it ends and its state is removed.
pub struct Sut {
    // Before the folder: the processes must be gone when it is removed.
    stack: Stack,
    contracts: Contracts,
    client: reqwest::Client,
    /// What was told to end.
    ending: Mutex<BTreeSet<(&'static str, u32)>>,
    _folder: TempDir,
}

impl Sut {
    /// Starts the whole stack and waits until it is ready.
    pub fn start() -> Result<Arc<Self>> {
        let sut = Self::prepare()?;
        sut.stack.start_all()?;
        sut.wait_indexed()?;
        Ok(sut)
    }

    /// Starts the gateway alone.
    pub fn start_gateway() -> Result<Arc<Self>> {
        let sut = Self::prepare()?;
        sut.stack.start("gateway")?;
        sut.stack.wait_ready("gateway")?;
        Ok(sut)
    }

    /// Waits until the project's own documents are in the index: that work goes on behind the first requests.
    fn wait_indexed(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(120);
        while !self.log("ai").contains("project documents indexed") {
            ensure!(Instant::now() < until, "the project's documents are not indexed{}", self.last_lines());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn prepare() -> Result<Arc<Self>> {
        let root = root();
        let folder = tempfile::tempdir()?;
        let mut options = Options::isolated(folder.path())
            .env("gateway", "GATEWAY__LOG__FORMAT", "json")
            .env("realtime", "LOG_FORMAT", "json")
            .env("ai", "LOG_FORMAT", "json");
        options.profile = match std::env::var("BLACKBOX_PROFILE").as_deref() {
            Ok("dev") => Profile::Debug,
            Err(_) | Ok("release") => Profile::Release,
            Ok(other) => bail!("BLACKBOX_PROFILE={other}: allowed are dev and release"),
        };
        let stack = Stack::load(&root, options)?;
        stack.prepare()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Plain HTTP on the loopback: no proxy, no certificates.
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Arc::new(Self {
            stack,
            contracts: Contracts::load(&root)?,
            client,
            ending: Mutex::default(),
            _folder: folder,
        }))
    }

    /// `host:port` of a port of the stack.
    pub fn address(&self, port: &str) -> String {
        format!("127.0.0.1:{}", self.stack.port(port))
    }

    /// The public base URL.
    pub fn base(&self) -> String {
        self.stack.url("public")
    }

    /// The WebSocket URL of collaborative documents for a user.
    pub fn collab_url(&self, token: &str) -> String {
        format!("ws://{}/collab?access_token={token}", self.address("public"))
    }

    /// A process with editors.
    pub fn editors(&self) -> Result<Collab> {
        Collab::start(self.stack.root())
    }

    /// A gRPC connection to a port of the stack.
    pub async fn grpc(&self, port: &str) -> Result<Grpc> {
        Grpc::connect(&self.address(port), self.contracts.clone()).await
    }

    /// A secret of the stack.
    pub fn secret(&self, name: &str) -> Result<String> {
        self.stack.secret(name)
    }

    /// A valid token of a user with all scopes.
    pub fn token(&self, subject: &str) -> Result<String> {
        self.token_with(&tokens::claims(subject, tokens::ALL_SCOPES))
    }

    /// A well-signed token with these claims.
    pub fn token_with(&self, claims: &Value) -> Result<String> {
        tokens::sign(&self.secret("identity")?, claims)
    }

    /// A request to the public listener.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base()))
    }

    /// A request with a user's token.
    pub fn as_user(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(token)
    }

    /// The metrics of the listener `port`.
    pub async fn metrics(&self, port: &str) -> Result<Metrics> {
        Metrics::fetch(&self.client, &self.address(port)).await
    }

    /// Creates a note and gives it as the server answered.
    pub async fn create_note(&self, token: &str, title: &str, text: &str) -> Result<Value> {
        let request =
            self.as_user(token, Method::POST, "/api/notes").json(&json!({"title": title, "text": text}));
        expect_json(request.send().await?, 201).await
    }

    /// Document ids of a user's search for words.
    pub async fn search_words(&self, token: &str, words: &str) -> Result<Vec<String>> {
        let query =
            [("query", words), ("mode", "SEARCH_MODE_TEXT"), ("collection", "notes"), ("limit", "100")];
        let response = self.as_user(token, Method::GET, "/v1/search").query(&query).send().await?;
        let found = expect_json(response, 200).await?;
        let results = found["results"].as_array().cloned().unwrap_or_default();
        Ok(results.iter().filter_map(|result| result["documentId"].as_str().map(str::to_owned)).collect())
    }

    /// Kills a process with SIGKILL and waits until it is gone.
    pub async fn kill(self: &Arc<Self>, name: &'static str) -> Result<()> {
        self.signal(name, Signal::KILL).await?;
        self.wait_exit(name, Duration::from_secs(5)).await
    }

    /// Signals a process.
    pub async fn signal(self: &Arc<Self>, name: &'static str, signal: Signal) -> Result<()> {
        let pid = self.stack.pid(name).with_context(|| format!("{name} does not run"))?;
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).insert((name, pid));
        self.blocking(move |stack| stack.kill(name, signal)).await
    }

    /// Waits until a process has ended.
    pub async fn wait_exit(self: &Arc<Self>, name: &'static str, bound: Duration) -> Result<()> {
        self.blocking(move |stack| wait_exit(stack, name, bound)).await
    }

    /// How a process ended.
    pub fn phase(&self, name: &str) -> Result<Phase> {
        self.stack.phase(name)
    }

    /// Starts a process and waits until it is ready.
    pub async fn restart(self: &Arc<Self>, name: &'static str) -> Result<()> {
        self.blocking(move |stack| {
            stack.start(name)?;
            stack.wait_ready(name)
        })
        .await
    }

    /// Starts whatever does not run: what a fault test leaves behind is none of the next one's business.
    pub fn heal(&self) -> Result<()> {
        let ending = std::mem::take(&mut *self.ending.lock().unwrap_or_else(PoisonError::into_inner));
        for (name, _) in ending.into_iter().filter(|(name, pid)| self.stack.pid(name) == Some(*pid)) {
            wait_exit(&self.stack, name, Duration::from_secs(20))?;
        }
        let names: Vec<_> = self.stack.names().map(str::to_owned).collect();
        for name in &names {
            if ended(&self.stack.phase(name)?) {
                self.stack.start(name)?;
            }
        }
        names.iter().try_for_each(|name| self.stack.wait_ready(name))
    }

    /// Everything that a process has written.
    pub fn log(&self, name: &str) -> String {
        let path = self.stack.log_path(name);
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// The last lines of every process, for a failure's report.
    pub fn last_lines(&self) -> String {
        let mut text = String::new();
        for name in self.stack.names() {
            let log = self.log(name);
            let lines: Vec<_> = log.lines().collect();
            text +=
                &format!("\n--- last lines of {name}\n{}", lines[lines.len().saturating_sub(8)..].join("\n"));
        }
        text
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Stack) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&this.stack)).await?
    }
}

fn wait_exit(stack: &Stack, name: &str, bound: Duration) -> Result<()> {
    stack.wait_exit(name, bound)?;
    // The phase follows the exit by a moment, and a new start needs it.
    let until = Instant::now() + Duration::from_secs(1);
    while !ended(&stack.phase(name)?) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn ended(phase: &Phase) -> bool {
    matches!(phase, Phase::Stopped | Phase::Exited(_))
}

/// The repository's root.
fn root() -> PathBuf {
    xtask::root()
}

/// The body of a response with this status; another status is an error that shows the body.
pub async fn expect_json(response: Response, status: u16) -> Result<Value> {
    let (got, url) = (response.status(), response.url().path().to_owned());
    let body = response.text().await?;
    ensure!(got == status, "{url} answered {got}, not {status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("{url} answered no JSON: {body}"))
}

/// The problem of a response: its status, media type and code are as expected, and it names the request.
pub async fn expect_problem(response: Response, status: u16, code: &str) -> Result<Value> {
    let headers = response.headers().clone();
    let url = response.url().path().to_owned();
    let problem = expect_json(response, status).await?;
    let text = |value: Option<&HeaderValue>| value.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let kind = text(headers.get("content-type")).unwrap_or_default();
    ensure!(kind.starts_with("application/problem+json"), "{url}: content-type {kind:?}: {problem}");
    ensure!(problem["code"] == code, "{url}: code is not {code:?}: {problem}");
    ensure!(problem["type"] == format!("urn:hybrid:problem:{code}"), "{url}: type: {problem}");
    ensure!(problem["status"] == status, "{url}: status in the body: {problem}");
    let request_id = text(headers.get("x-request-id")).context("no x-request-id header")?;
    ensure!(problem["request_id"] == *request_id, "{url}: request_id is not {request_id:?}: {problem}");
    Ok(problem)
}
