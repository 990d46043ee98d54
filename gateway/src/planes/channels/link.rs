//! The link: a stream of gRPC on the internal listener, over which an application attaches. Both directions are
//! bounded, and neither waits for the other.

use crate::{
    edge::{Body, BodyError, Code, Context, Problem},
    identity::Kind,
};
use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use hub::{
    Hub, Link, LinkError,
    proto::{
        AttachRequest, AttachResponse,
        link_service_server::{LinkService, LinkServiceServer},
    },
};
use hyper::body::Incoming;
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{Status, Streaming, codegen::Service};

/// Until the hello.
const HELLO: Duration = Duration::from_secs(10);

/// Lets a service attach that the configuration names.
pub(super) async fn serve(
    hub: &Hub,
    services: &Arc<[String]>,
    stop: &CancellationToken,
    request: Request<Incoming>,
    context: &Context,
) -> Result<Response<Body>, Problem> {
    let caller = &context.caller;
    let name = caller.sub.strip_prefix("service:").filter(|_| caller.kind == Kind::Service);
    let Some(service) = name.filter(|name| services.iter().any(|service| service == name)) else {
        let detail = format!("Only these services may attach, for themselves: {}.", services.join(", "));
        return Err(Problem::new(Code::PermissionDenied, detail));
    };
    let attach = Attach { hub: hub.clone(), service: service.to_owned(), stop: stop.clone() };
    let Ok(response) = LinkServiceServer::new(attach).call(request).await;
    Ok(response.map(|body| Body::stream(body.map_err(BodyError::from))))
}

/// One service's way in.
struct Attach {
    hub: Hub,
    service: String,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl LinkService for Attach {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

    async fn attach(
        &self,
        request: tonic::Request<Streaming<AttachRequest>>,
    ) -> Result<tonic::Response<Self::AttachStream>, Status> {
        let (link, messages) = self.hub.attach(&self.service);
        let (over, end) = oneshot::channel();
        let reading = tokio::spawn(async move {
            let _ = over.send(read(request.into_inner(), link).await);
        });
        let outward = Outward {
            messages,
            end: Some(end),
            stop: self.stop.clone(),
            service: self.service.clone(),
            _reading: AbortOnDropHandle::new(reading),
        };
        tracing::info!(service = self.service, "a service attached to the channels");
        let outward =
            stream::unfold(Some(outward), |outward| outward.map_or_else(over_already, Outward::next));
        Ok(tonic::Response::new(outward.boxed()))
    }
}

type Step = Pin<Box<dyn Future<Output = Option<(Result<AttachResponse, Status>, Option<Outward>)>> + Send>>;

fn over_already() -> Step {
    Box::pin(async { None })
}

/// What the application says, until it has said all or says something wrong.
async fn read(mut said: Streaming<AttachRequest>, mut link: Link) -> Result<(), Status> {
    let mut first = true;
    loop {
        let message = match first {
            true => timeout(HELLO, said.message()).await.map_err(|_| {
                Status::invalid_argument(format!("Expected a hello within {} s.", HELLO.as_secs()))
            })?,
            false => said.message().await,
        };
        match message? {
            None if first => return Err(Status::invalid_argument("Expected a hello.")),
            None => return Ok(()),
            Some(message) => match link.receive(message) {
                Ok(()) => {}
                Err(LinkError::Left) => return Ok(()),
                Err(LinkError::Invalid(wrong)) => return Err(Status::invalid_argument(wrong)),
                Err(LinkError::Flood(wrong)) => return Err(Status::resource_exhausted(wrong)),
            },
        }
        first = false;
    }
}

/// What the hub says.
struct Outward {
    messages: mpsc::Receiver<AttachResponse>,
    /// What the reading came to.
    end: Option<oneshot::Receiver<Result<(), Status>>>,
    stop: CancellationToken,
    service: String,
    /// Ends with the stream.
    _reading: AbortOnDropHandle<()>,
}

impl Outward {
    /// The next message, or the stream's end, with what goes on after it.
    fn next(mut self) -> Step {
        Box::pin(async move {
            let end = async {
                match &mut self.end {
                    Some(end) => end.await.unwrap_or(Ok(())),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                message = self.messages.recv() => match message {
                    Some(message) => Some((Ok(message), Some(self))),
                    // The hub has ended it; why, the reading knows.
                    None => self.over().await,
                },
                end = end => Some((Err(end.err()?), None)),
                () = self.stop.cancelled() => {
                    Some((Err(Status::unavailable("The gateway is stopping.")), None))
                }
            }
        })
    }

    async fn over(mut self) -> Option<(Result<AttachResponse, Status>, Option<Self>)> {
        let end = timeout(Duration::from_millis(100), self.end.take()?).await.ok()?.ok()?;
        Some((Err(end.err()?), None))
    }
}

impl Drop for Outward {
    fn drop(&mut self) {
        tracing::info!(service = self.service, "a service's link to the channels ended");
    }
}
