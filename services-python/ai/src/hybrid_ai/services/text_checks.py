"""The limits of TextService's requests, each checked before any work is done for them."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from hybrid.ai.v1 import text_service_pb2 as pb

from hybrid_ai.errors import InvalidArgument
from hybrid_ai.services.checks import Violations, check_length

MAX_TEXTS, MAX_ANALYZED, MAX_TEXT, MAX_CHARACTERS = 256, 64, 32_768, 1_048_576
MAX_LABELS, MAX_NAME, MAX_DESCRIPTION = 100, 100, 1000
MAX_SUMMARIZED, MAX_SENTENCES, MAX_CHOSEN, DEFAULT_CHOSEN = 100_000, 1000, 20, 3
MAX_HTML, MAX_URL, MAX_CHARSET = 2_097_152, 2048, 40


def check_texts(texts: Sequence[str], most: int) -> Violations:
    """What is wrong with a request's texts."""
    if not 1 <= len(texts) <= most:
        return [("texts", f"has {len(texts)} texts; 1 to {most} are allowed")]
    violations: Violations = []
    for index, text in enumerate(texts):
        check_length(violations, f"texts[{index}]", text, 1, MAX_TEXT)
    total = sum(map(len, texts))
    if not violations and total > MAX_CHARACTERS:
        violations.append(("texts", f"have {total} characters together; at most {MAX_CHARACTERS} are allowed"))
    return violations


def check_classify(request: pb.ClassifyRequest) -> None:
    """Raises InvalidArgument."""
    violations = check_texts(request.texts, MAX_ANALYZED)
    labels = request.labels
    if not 2 <= len(labels) <= MAX_LABELS:
        violations.append(("labels", f"has {len(labels)} labels; 2 to {MAX_LABELS} are allowed"))
        raise InvalidArgument(violations)
    seen = set[str]()
    for index, label in enumerate(labels):
        check_length(violations, f"labels[{index}].name", label.name, 1, MAX_NAME)
        check_length(violations, f"labels[{index}].description", label.description, 0, MAX_DESCRIPTION)
        if label.name in seen:
            violations.append((f"labels[{index}].name", "is another label's name too"))
        seen.add(label.name)
    reject(violations)


def check_summarize(request: pb.SummarizeRequest) -> None:
    """Raises InvalidArgument. The number of sentences is checked when they are known."""
    violations: Violations = []
    check_length(violations, "text", request.text, 1, MAX_SUMMARIZED)
    if not 0 <= request.max_sentences <= MAX_CHOSEN:
        allowed = f"1 to {MAX_CHOSEN} are allowed, or 0 for {DEFAULT_CHOSEN}"
        violations.append(("max_sentences", f"is {request.max_sentences}; {allowed}"))
    reject(violations)


def check_extract(request: pb.ExtractRequest) -> None:
    """Raises InvalidArgument."""
    violations: Violations = []
    source = request.WhichOneof("source")
    if source is None:
        violations.append(("source", "is not given; html or url is needed"))
    elif source == "html" and not 1 <= len(request.html) <= MAX_HTML:
        violations.append(("html", f"has {len(request.html)} bytes; 1 to {MAX_HTML} are allowed"))
    elif source == "url":
        check_length(violations, "url", request.url, 1, MAX_URL)
    check_length(violations, "base_url", request.base_url, 0, MAX_URL)
    if request.base_url and not _is_web(request.base_url):
        violations.append(("base_url", "is not an http or https URL"))
    check_length(violations, "charset", request.charset, 0, MAX_CHARSET)
    reject(violations)


def reject(violations: Violations) -> None:
    """Raises InvalidArgument if there are any."""
    if violations:
        raise InvalidArgument(violations)


def _is_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:
        return False
