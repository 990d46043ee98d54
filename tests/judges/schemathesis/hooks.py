"""What schemathesis does not know by itself: how a stream of messages is written, one line each."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def ndjson(_: Any, value: Any) -> bytes:
    """A list is a stream; what is none is one message, right or wrong."""
    messages = value if isinstance(value, list) else [value]
    return "".join(json.dumps(message) + "\n" for message in messages).encode()
