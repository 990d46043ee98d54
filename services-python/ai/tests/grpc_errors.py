"""Reads the details of gRPC errors in tests."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def fails(call: Callable[[], Any], code: grpc.StatusCode) -> grpc.RpcError:
    """Runs the call (a stream is read to its end) and expects the code."""
    with pytest.raises(grpc.RpcError) as caught:
        result = call()
        if hasattr(result, "__next__"):
            list(result)
    assert caught.value.code() == code, caught.value
    return caught.value


def fields(error: grpc.RpcError) -> list[str]:
    """The fields that a BadRequest names."""
    status = rpc_status.from_call(error)
    bad = error_details_pb2.BadRequest()
    assert status is not None and status.details[0].Unpack(bad)
    return [violation.field for violation in bad.field_violations]


def invalid(call: Callable[[], Any]) -> list[str]:
    """The fields that an INVALID_ARGUMENT names."""
    return fields(fails(call, grpc.StatusCode.INVALID_ARGUMENT))


def reason(error: grpc.RpcError) -> str:
    """The reason of the ErrorInfo that every error carries."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None and status.details[-1].Unpack(info) and info.domain == "ai.hybrid"
    return info.reason


def retry_delay(error: grpc.RpcError) -> float:
    """The seconds that a RetryInfo asks for."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.RetryInfo()
    assert status is not None and status.details[0].Unpack(info)
    return info.retry_delay.seconds + info.retry_delay.nanos / 1e9
