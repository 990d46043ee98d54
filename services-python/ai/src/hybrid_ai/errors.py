"""The catalogue of errors that callers see: each a gRPC status, with google.rpc details where they help.

PublicError ← InvalidArgument (← TooLarge), NotFound, Unauthenticated, Overloaded, DeadlineExceeded,
FailedPrecondition, Unavailable, Internal. Anything else that is raised is a fault of this service: it is logged, and
the caller sees Internal without its text.
"""

import functools
from collections.abc import Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

Details = tuple[Message, ...]

DETAILS_KEY = "grpc-status-details-bin"
# ErrorInfo's domain: who the reasons belong to.
DOMAIN = "ai.hybrid"


class PublicError(Exception):
    """What the caller sees. `details` are google.rpc messages; an ErrorInfo with the reason is added to them."""

    code = grpc.StatusCode.INTERNAL
    reason = "INTERNAL"

    def __init__(self, message: str, details: Sequence[Message] = (), reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = (*details, error_details_pb2.ErrorInfo(reason=reason or self.reason, domain=DOMAIN))

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The google.rpc.Status as metadata."""
        number: int = self.code.value[0]
        status = status_pb2.Status(code=number, message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        return ((DETAILS_KEY, status.SerializeToString()),)


class InvalidArgument(PublicError):
    """One or more fields are wrong; `violations` are (field path, what is wrong with it)."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_FIELDS"

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        self.violations = tuple(violations)
        bad = error_details_pb2.BadRequest()
        for field, description in violations:
            bad.field_violations.add(field=field, description=description)
        super().__init__("; ".join(f"{field}: {description}" for field, description in violations[:3]), [bad])


class TooLarge(InvalidArgument):
    """What a field holds would take more time or memory than may be spent on it."""

    reason = "TOO_LARGE"


class NotFound(PublicError):
    """What was asked for does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class Unauthenticated(PublicError):
    """The call carries no valid identity."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "INVALID_IDENTITY"


class Overloaded(PublicError):
    """A queue is full, or too long for the call's deadline; the call may be tried again after `retry_seconds`.

    Such an error is made for each call of a flood, where most of them are the same: these are not put together anew.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"

    def __init__(self, message: str, retry_seconds: float = 1.0, reason: str = "") -> None:
        Exception.__init__(self, message)
        self.message = message
        self.retry_seconds = retry_seconds
        self.details, self._usual = _overloaded(message, reason or self.reason, int(retry_seconds * 1000))
        self._usual_details = self.details

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return self._usual if self.details is self._usual_details else super().trailing_metadata()


@functools.lru_cache(maxsize=1024)
def _overloaded(message: str, reason: str, milliseconds: int) -> tuple[Details, tuple[tuple[str, bytes], ...]]:
    """The details of an error, and its trailing metadata."""
    delay = Duration()
    delay.FromMilliseconds(milliseconds)
    error = PublicError(message, [error_details_pb2.RetryInfo(retry_delay=delay)], reason)
    error.code = Overloaded.code
    return error.details, error.trailing_metadata()


class DeadlineExceeded(PublicError):
    """The call's deadline passed before its work began."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class FailedPrecondition(PublicError):
    """The service is not configured to do that; the reason says which setting forbids it."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, reason=reason)


class Unavailable(PublicError):
    """Something that the call needs is not there now."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "UNAVAILABLE"


class Internal(PublicError):
    """A fault of this service."""
