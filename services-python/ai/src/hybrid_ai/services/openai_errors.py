"""Errors as OpenAI's clients know them: `{"error": {message, type, param, code}}`, as the content of a gRPC status.

The gateway sends a status' `google.api.HttpBody` as the HTTP body, with the HTTP status of the code.
"""

import json
import logging
from collections.abc import Sequence

import grpc
from google.api import httpbody_pb2
from google.rpc import error_details_pb2

from hybrid_ai.errors import Internal, InvalidArgument, PublicError

_LOG = logging.getLogger("hybrid_ai.calls")
_TYPES = {
    grpc.StatusCode.INVALID_ARGUMENT: ("invalid_request_error", "invalid_value"),
    grpc.StatusCode.NOT_FOUND: ("invalid_request_error", "model_not_found"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("rate_limit_error", "rate_limit_exceeded"),
    grpc.StatusCode.UNAVAILABLE: ("server_error", "unavailable"),
}
_OTHER = ("server_error", "internal_error")


class Refused(InvalidArgument):
    """A request that OpenAI's API would refuse, too; `reason` is one of its codes."""

    def __init__(self, violations: Sequence[tuple[str, str]], reason: str = "invalid_value") -> None:
        super().__init__(violations)
        self.reason = reason


def document(error: PublicError) -> bytes:
    """The JSON of an error."""
    kind, code = _TYPES.get(error.code, _OTHER)
    bad = [detail for detail in error.details if isinstance(detail, error_details_pb2.BadRequest)]
    param = bad[0].field_violations[0].field if bad else None
    code = error.reason if isinstance(error, Refused) else code
    body = {"message": error.message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": body}, ensure_ascii=False).encode()


def shaped(error: Exception) -> PublicError:
    """The error to raise: a public one with its JSON. A fault of ours is logged here."""
    if not isinstance(error, PublicError):
        _LOG.error("call failed", exc_info=error)
        error = Internal("internal error")
    content = httpbody_pb2.HttpBody(content_type="application/json", data=document(error))
    error.details = (*error.details, content)
    return error
