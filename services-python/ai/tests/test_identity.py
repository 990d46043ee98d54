"""Who may call: only with an identity that the gateway signed, for this service, and that has not expired."""

import time

import grpc
import pytest
from conftest import SECRET, SERVICES, Running, sign, wait_until
from google.protobuf import descriptor_pb2
from grpc_errors import fails
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hybrid.ai.v1.text_service_pb2 import EmbedRequest

NOW = int(time.time())
SERVING = health_pb2.HealthCheckResponse.SERVING
REFUSED = {
    "missing": None,
    "empty": "",
    "not a token": "abc",
    "another secret": sign(secret="another secret that is long enough, too"),
    "another audience": sign(aud="realtime"),
    "another issuer": sign(iss="realtime"),
    "expired": sign(iat=NOW - 120, exp=NOW - 60),
    "no expiry": sign(exp=None),
    "no subject": sign(sub=None),
    "unknown kind": sign(kind="root"),
    "unsigned": sign().rsplit(".", 1)[0] + ".",
    "changed": sign()[:-4] + "AAAA",
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED.keys())
def test_a_call_without_a_valid_identity_is_unauthenticated(service: Running, token: str | None) -> None:
    metadata = () if token is None else (("x-hybrid-identity", token),)
    request = EmbedRequest(texts=["a"])
    fails(lambda: service.text.Embed(request, metadata=metadata), grpc.StatusCode.UNAUTHENTICATED)


def test_other_headers_are_not_trusted(service: Running) -> None:
    metadata = (("authorization", f"Bearer {sign()}"), ("x-hybrid-subject", "alice"))
    request = EmbedRequest(texts=["a"])
    fails(lambda: service.text.Embed(request, metadata=metadata), grpc.StatusCode.UNAUTHENTICATED)


def test_five_seconds_of_leeway_and_no_more(service: Running) -> None:
    now = int(time.time())
    within, beyond = sign(iat=now - 60, exp=now - 2), sign(iat=now - 60, exp=now - 7)
    request = EmbedRequest(texts=["a"])
    service.text.Embed(request, metadata=(("x-hybrid-identity", within),))
    fails(
        lambda: service.text.Embed(request, metadata=(("x-hybrid-identity", beyond),)),
        grpc.StatusCode.UNAUTHENTICATED,
    )


def test_a_known_token_is_refused_once_it_has_expired() -> None:
    from hybrid_ai import identity
    from hybrid_ai.errors import Unauthenticated

    now = int(time.time())
    verifier = identity.Verifier(SECRET.encode())
    token = sign(iat=now - 60, exp=now - 4)
    assert verifier.verify(token).subject == "alice"
    assert verifier.verify(token).subject == "alice"
    time.sleep(max(0.0, now + 1.05 - time.time()))  # time itself is what is tested
    with pytest.raises(Unauthenticated):
        verifier.verify(token)


def test_health_needs_no_identity(service: Running) -> None:
    health = health_pb2_grpc.HealthStub(service.channel)
    requests = [health_pb2.HealthCheckRequest(service=name) for name in ("", *SERVICES)]
    wait_until(lambda: {health.Check(request).status for request in requests} == {SERVING})  # search comes last


def test_reflection_needs_no_identity_and_describes_every_service(service: Running) -> None:
    requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
    requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in SERVICES]
    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    listed, *described = stub.ServerReflectionInfo(iter(requests))
    names = {entry.name for entry in listed.list_services_response.service}
    assert names == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    for expected, answer in zip(SERVICES.values(), described, strict=True):
        first = answer.file_descriptor_response.file_descriptor_proto[0]
        file = descriptor_pb2.FileDescriptorProto.FromString(first)
        (found,) = file.service
        assert f"{file.package}.{found.name}" == expected.full_name
        assert [method.name for method in found.method] == [method.name for method in expected.methods]
