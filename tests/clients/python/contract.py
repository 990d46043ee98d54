"""The lab's services, from the descriptor set that the test wrote, for both kinds of channel."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from google.protobuf import descriptor_pb2, message_factory

URL, SET, TOKEN = sys.argv[1:4]
TARGET = urlsplit(URL).netloc
# No call of these cases takes longer, unless it hangs.
LIMIT = 10
# The upstream sees both; the test asks it.
PROBES = (("x-probe", "seen"), ("x-probe-bin", b"\x00\xff"))
AUTHORIZED = (("authorization", f"Bearer {TOKEN}"),)

_files = descriptor_pb2.FileDescriptorSet.FromString(Path(SET).read_bytes())
Sample = message_factory.GetMessages(_files.file)["lab.v1.Sample"]

# Python's name, the contract's, and whether requests and responses are streams.
_METHODS = (
    ("get", "LabService/Get", "unary_unary"),
    ("echo", "LabService/Echo", "unary_unary"),
    ("inner", "LabService/Inner", "unary_unary"),
    ("unruled", "LabService/Unruled", "unary_unary"),
    ("watch", "LabService/Watch", "unary_stream"),
    ("mine", "LabService/Mine", "unary_stream"),
    ("converse", "LabService/Converse", "stream_stream"),
    ("gather", "WireService/Gather", "stream_unary"),
)


def methods(channel: Any) -> SimpleNamespace:
    """What a channel can call."""

    def method(path: str, kind: str) -> Any:
        make = getattr(channel, kind)
        return make(
            f"/lab.v1.{path}", request_serializer=Sample.SerializeToString, response_deserializer=Sample.FromString
        )

    return SimpleNamespace(**{name: method(path, kind) for name, path, kind in _METHODS})


def sample(text: str, number: int = 0) -> Any:
    """A message."""
    return Sample(text=text, number=number)
