//! What went wrong in a call, as the edge's problems: gRPC statuses with their details, transport failures, and
//! requests that do not fit the contract.

use super::{Endpoint, unary};
use crate::{
    edge::{Code, FieldError, Problem},
    upstream::grpc::CallError,
};
use std::error::Error;
use transcode::{TranscodeError, Violation, status::Details};

/// The upstream's own status.
pub(super) fn from_parts(
    endpoint: &Endpoint,
    status: tonic::Code,
    message: &str,
    details: Details,
) -> Problem {
    let code = code(status);
    if hides_message(code) {
        let (upstream, method) = (&endpoint.upstream.name, endpoint.method.full_name());
        tracing::warn!(upstream, method, code = ?status, message, "the upstream failed");
    }
    let detail = match message {
        message if !message.is_empty() && !hides_message(code) => message.to_owned(),
        _ => format!("The upstream answered {}.", code.name()),
    };
    let mut problem =
        Problem::new(code, detail).with_errors(details.violations.into_iter().map(field_error).collect());
    if let Some(delay) = details.retry_delay {
        // Whole seconds, rounded up: a client that comes a moment early is refused again.
        problem = problem.with_retry_after(delay.as_secs() + u64::from(delay.subsec_nanos() > 0));
    }
    if let Some(content) = details.content {
        problem = problem.with_content(unary::content_type(&content), content.data);
    }
    problem
}

/// A call that got no response.
pub(super) fn from_call(endpoint: &Endpoint, error: &CallError) -> Problem {
    match error {
        CallError::Overloaded => {
            Problem::new(Code::Overloaded, "Too many calls to the upstream are in flight.")
        }
        CallError::Unavailable(cause) => {
            tracing::debug!(upstream = endpoint.upstream.name, cause, "the upstream cannot be reached");
            Problem::new(Code::UpstreamUnavailable, "The upstream cannot be reached.")
        }
        CallError::Broken(cause) => broken(endpoint, cause),
    }
}

/// A request or response that does not fit the contract.
pub(super) fn from_transcode(endpoint: &Endpoint, error: &TranscodeError) -> Problem {
    match error {
        TranscodeError::Invalid(violations) => {
            let errors = violations.iter().cloned().map(field_error).collect();
            Problem::new(Code::InvalidArgument, "The request does not fit the contract.").with_errors(errors)
        }
        TranscodeError::Syntax { .. } => Problem::new(Code::InvalidArgument, capitalised(&error.to_string())),
        TranscodeError::Response { .. } => {
            tracing::warn!(upstream = endpoint.upstream.name, %error, "the upstream's message cannot be read");
            Problem::new(Code::BadGateway, "The upstream's answer does not fit the contract.")
        }
    }
}

/// A line of a request stream that does not fit.
pub(super) fn from_line(endpoint: &Endpoint, line: u64, error: &TranscodeError) -> Problem {
    match error {
        TranscodeError::Invalid(violations) => {
            let errors = violations.iter().cloned().map(field_error).collect();
            let detail = format!("Line {line} does not fit the contract.");
            Problem::new(Code::InvalidArgument, detail).with_errors(errors)
        }
        TranscodeError::Syntax { description, column, .. } => {
            let detail = format!("Line {line} is not valid JSON: {description} at column {column}.");
            Problem::new(Code::InvalidArgument, detail)
        }
        TranscodeError::Response { .. } => from_transcode(endpoint, error),
    }
}

/// A message of an answer that is larger than any may be; says which limit it is, for whoever can raise it.
pub(super) fn answer_too_large(limit: u64) -> Problem {
    Problem::new(Code::BodyTooLarge, too_large_answer(limit))
}

/// What a client is told of it.
pub(super) fn too_large_answer(limit: u64) -> String {
    format!(
        "A message of the upstream's answer exceeds {limit} bytes: raise the gateway's limits.body_bytes."
    )
}

/// The call did not end in time.
pub(super) fn timed_out() -> Problem {
    Problem::new(Code::GatewayTimeout, "The upstream did not answer in time.")
}

/// The client holds a stream up and does not read it.
pub(super) fn unread() -> Problem {
    Problem::new(Code::Cancelled, "The stream was not read.")
}

/// A message after the request's end.
pub(super) fn no_more_messages(streaming: bool) -> Problem {
    let detail = if streaming { "The request stream has ended." } else { "This method takes one message." };
    Problem::new(Code::InvalidArgument, detail)
}

fn broken(endpoint: &Endpoint, cause: &(dyn Error + 'static)) -> Problem {
    tracing::warn!(upstream = endpoint.upstream.name, cause, "the connection to the upstream broke");
    Problem::new(Code::BadGateway, "The connection to the upstream broke.")
}

fn field_error(Violation { field, description }: Violation) -> FieldError {
    FieldError { field, description }
}

fn code(code: tonic::Code) -> Code {
    match code {
        // An upstream that says OK and yet gave an error speaks nonsense.
        tonic::Code::Ok => Code::BadGateway,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::Unknown => Code::Unknown,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::DeadlineExceeded => Code::GatewayTimeout,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Internal => Code::Internal,
        tonic::Code::Unavailable => Code::UpstreamUnavailable,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
    }
}

/// Messages of these codes talk about the upstream's insides.
fn hides_message(code: Code) -> bool {
    matches!(code, Code::Unknown | Code::Internal | Code::DataLoss | Code::BadGateway)
}

/// An error's text as a sentence.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}
