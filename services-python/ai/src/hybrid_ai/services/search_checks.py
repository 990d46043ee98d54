"""What SearchService's requests may hold: every limit, and what protobuf's loose types become."""

import math
from collections.abc import Sequence

from google.protobuf import struct_pb2
from hybrid.ai.v1 import search_service_pb2 as pb

from hybrid_ai.errors import InvalidArgument
from hybrid_ai.services.checks import MAX_SUBJECT, Violations, check_length, check_subjects
from hybrid_ai.store.fields import Filter, Value

MAX_KEY, MAX_TITLE, MAX_TEXT, MAX_QUERY = 256, 1024, 1_048_576, 4096
MAX_LIMIT, DEFAULT_LIMIT = 100, 10
MAX_SUBJECTS = 1000
MAX_VISIBLE_TO = 100
MAX_URI = 2048
MAX_COLLECTIONS = 16
MAX_FIELDS, MAX_FIELD_KEY, MAX_FIELD_TEXT, MAX_FIELD_TEXTS = 32, 64, 256, 32
# Characters of a document's metadata together: 32 keys with a text each, all as long as may be. With much more, an
# answer of 100 results could exceed the 8 MiB of a message.
MAX_METADATA = MAX_FIELDS * (MAX_FIELD_KEY + MAX_FIELD_TEXT)
MAX_FILTERS, MAX_FILTER_TEXTS = 16, 64


def check_document(document: pb.Document) -> dict[str, Value]:
    """Raises InvalidArgument. Returns the metadata."""
    violations: Violations = []
    check_length(violations, "document.id", document.id, 1, MAX_KEY)
    if document.revision < 1:
        violations.append(("document.revision", f"is {document.revision}; at least 1 is needed"))
    check_length(violations, "document.collection", document.collection, 0, MAX_KEY)
    check_length(violations, "document.title", document.title, 0, MAX_TITLE)
    check_length(violations, "document.text", document.text, 0, MAX_TEXT)
    check_length(violations, "document.uri", document.uri, 0, MAX_URI)
    check_length(violations, "document.owner", document.owner, 0, MAX_SUBJECT)
    check_subjects(violations, "document.readers", document.readers, MAX_SUBJECTS)
    metadata = _metadata(violations, document.metadata)
    if violations:
        raise InvalidArgument(violations)
    return metadata


def check_search(request: pb.SearchRequest) -> None:
    """Raises InvalidArgument."""
    violations: Violations = []
    check_length(violations, "query", request.query, 1, MAX_QUERY)
    if not 0 <= request.limit <= MAX_LIMIT:
        violations.append(("limit", f"is {request.limit}; 1 to {MAX_LIMIT} are allowed, or 0 for {DEFAULT_LIMIT}"))
    if request.mode not in pb.SearchMode.values():
        violations.append(("mode", f"is {request.mode}, which is not a search mode"))
    check_subjects(violations, "visible_to", request.visible_to, MAX_VISIBLE_TO)
    check_length(violations, "exclude_document_id", request.exclude_document_id, 0, MAX_KEY)
    check_collections(violations, request.collection, request.collections)
    if len(request.filters) > MAX_FILTERS:
        violations.append(("filters", f"has {len(request.filters)} filters; at most {MAX_FILTERS} are allowed"))
    for index, sent in enumerate(request.filters[:MAX_FILTERS]):
        _check_filter(violations, f"filters[{index}]", sent)
    if violations:
        raise InvalidArgument(violations)


def check_collections(violations: Violations, single: str, several: Sequence[str]) -> None:
    """Adds what is wrong with the collections that a search names."""
    check_length(violations, "collection", single, 0, MAX_KEY)
    if len(several) > MAX_COLLECTIONS:
        violations.append(("collections", f"has {len(several)} names; at most {MAX_COLLECTIONS} are allowed"))
    for index, name in enumerate(several[:MAX_COLLECTIONS]):
        check_length(violations, f"collections[{index}]", name, 1, MAX_KEY)


def collections(single: str, several: Sequence[str]) -> tuple[str, ...]:
    """All collections that a search names."""
    return tuple(dict.fromkeys((single, *several) if single else several))


def condition(sent: pb.Filter) -> Filter:
    """A checked filter as the store knows it."""
    match sent.WhichOneof("condition"):
        case "text":
            return Filter(sent.key, (sent.text,), negate=sent.negate)
        case "number":
            return Filter(sent.key, (sent.number,), negate=sent.negate)
        case "boolean":
            return Filter(sent.key, (sent.boolean,), negate=sent.negate)
        case "any_of":
            return Filter(sent.key, tuple(sent.any_of.texts), negate=sent.negate)
        case "range":
            low = sent.range.min if sent.range.HasField("min") else -math.inf
            high = sent.range.max if sent.range.HasField("max") else math.inf
            return Filter(sent.key, between=(low, high), negate=sent.negate)
        case _:
            return Filter(sent.key, negate=sent.negate)


def _check_filter(violations: Violations, path: str, sent: pb.Filter) -> None:
    check_length(violations, f"{path}.key", sent.key, 1, MAX_FIELD_KEY)
    match sent.WhichOneof("condition"):
        case "text":
            check_length(violations, f"{path}.text", sent.text, 0, MAX_FIELD_TEXT)
        case "number" if not math.isfinite(sent.number):
            violations.append((f"{path}.number", f"is {sent.number}; a finite number is needed"))
        case "any_of" if not 1 <= len(sent.any_of.texts) <= MAX_FILTER_TEXTS:
            description = f"has {len(sent.any_of.texts)} texts; 1 to {MAX_FILTER_TEXTS} are allowed"
            violations.append((f"{path}.any_of.texts", description))
        case "any_of":
            for index, text in enumerate(sent.any_of.texts):
                check_length(violations, f"{path}.any_of.texts[{index}]", text, 0, MAX_FIELD_TEXT)
        case "range" if not (sent.range.HasField("min") or sent.range.HasField("max")):
            violations.append((f"{path}.range", "has neither min nor max; one of both is needed"))
        case "range" if math.isnan(sent.range.min) or math.isnan(sent.range.max):
            violations.append((f"{path}.range", "has an end that is not a number"))


def _metadata(violations: Violations, sent: struct_pb2.Struct) -> dict[str, Value]:
    if len(sent.fields) > MAX_FIELDS:
        violations.append(("document.metadata", f"has {len(sent.fields)} keys; at most {MAX_FIELDS} are allowed"))
        return {}
    metadata: dict[str, Value] = {}
    for key in sorted(sent.fields):
        path = f"document.metadata.{key}"
        if not 1 <= len(key) <= MAX_FIELD_KEY:
            description = f"has a key of {len(key)} characters; 1 to {MAX_FIELD_KEY} are allowed"
            violations.append(("document.metadata", description))
        elif (value := _value(violations, path, sent.fields[key])) is not None:
            metadata[key] = value
    if (total := sum(len(key) + _characters(value) for key, value in metadata.items())) > MAX_METADATA:
        description = f"has {total} characters together; at most {MAX_METADATA} are allowed"
        violations.append(("document.metadata", description))
    return metadata


def _characters(value: Value) -> int:
    match value:
        case str():
            return len(value)
        case list():
            return sum(map(len, value))
        case _:
            return 0


def _value(violations: Violations, path: str, sent: struct_pb2.Value) -> Value | None:
    match sent.WhichOneof("kind"):
        case "string_value":
            check_length(violations, path, sent.string_value, 0, MAX_FIELD_TEXT)
            return sent.string_value
        case "number_value" if math.isfinite(sent.number_value):
            return sent.number_value
        case "bool_value":
            return sent.bool_value
        case "list_value" if all(item.WhichOneof("kind") == "string_value" for item in sent.list_value.values):
            texts = [item.string_value for item in sent.list_value.values]
            if not 1 <= len(texts) <= MAX_FIELD_TEXTS:
                violations.append((path, f"has {len(texts)} texts; 1 to {MAX_FIELD_TEXTS} are allowed"))
            for index, text in enumerate(texts):
                check_length(violations, f"{path}[{index}]", text, 0, MAX_FIELD_TEXT)
            return texts
    violations.append((path, "is not a text, a finite number, true, false or a list of texts"))
    return None
