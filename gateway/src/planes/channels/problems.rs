//! The hub's errors as problem documents.

use crate::edge::{Code, Problem};
use hub::{
    Closing,
    proto::{CloseCode, Error, ErrorCode},
};

/// An error of a command.
pub(super) fn of_error(error: &Error) -> Problem {
    let code = match error.code() {
        ErrorCode::Invalid => Code::InvalidArgument,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::Expired => Code::TokenExpired,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::Conflict => Code::Aborted,
        ErrorCode::LimitExceeded | ErrorCode::RateLimited => Code::ResourceExhausted,
        ErrorCode::Unavailable => Code::UpstreamUnavailable,
        ErrorCode::DeadlineExceeded => Code::GatewayTimeout,
        ErrorCode::Internal | ErrorCode::Unspecified => Code::Internal,
    };
    let problem = Problem::new(code, error.message.clone()).with_reason(error.reason.clone());
    after(problem, error.retry_after_ms)
}

/// Why a connection is not opened, or ends before its first byte.
pub(super) fn of_closing(closing: &Closing) -> Problem {
    let code = match closing.code {
        CloseCode::Draining => Code::Draining,
        CloseCode::Expired => Code::TokenExpired,
        CloseCode::BadFrame => Code::InvalidArgument,
        CloseCode::Refused | CloseCode::Revoked => Code::PermissionDenied,
        _ => Code::Overloaded,
    };
    after(Problem::new(code, closing.message.clone()), closing.retry_after_ms)
}

pub(super) fn stopping() -> Problem {
    Problem::new(Code::Draining, "The gateway is stopping.")
}

/// Retry-After has whole seconds: rounded up, so that nobody comes too early.
fn after(problem: Problem, millis: u32) -> Problem {
    match millis {
        0 => problem,
        millis => problem.with_retry_after(u64::from(millis.div_ceil(1_000))),
    }
}
