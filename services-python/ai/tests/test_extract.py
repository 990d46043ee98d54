"""Extract: readable text, links and tables of any HTML; limits; and the pool of processes that reads it."""

import os
import signal
import threading
from collections.abc import Callable

import grpc
import pytest
from conftest import Running, as_user, wait_until
from grpc_errors import fails, fields, invalid, reason
from hybrid.ai.v1 import text_service_pb2 as pb

CRASHES = 'ai_worker_crashes_total{pool="extract"}'
PARAGRAPH = "<p>The kettle boils at a hundred degrees, and tea needs that; most people know it well enough.</p>"
PAGE = f"""<!doctype html><html><head><title> On
 kettles </title><style>p {{ color: red }}</style></head><body>
<nav><a href="/">Home</a> <a href="javascript:alert(1)">Click</a> <a href="mailto:a@b.example">Mail</a></nav>
<article><h1>Kettles</h1>{PARAGRAPH * 6}<p>See <a href="tea.html">the <b>tea</b> page</a>.</p>
<table><tr><th>Tea</th><th>Degrees</th></tr><tr><td>Green</td><td>80</td></tr></table></article>
<script>var hidden = "never shown";</script><footer>Imprint</footer></body></html>"""
MALFORMED = [
    (b"<p>Unclosed <b>bold <i>and</p> nested <table><tr><td>cell", "Unclosed bold and\nnested\n\ncell"),
    (b"<html><html><body><body>text</html></html>trailing", "texttrailing"),
    (b"<p>before<a href='x>text</a><p>after", "before"),  # all of the rest is the attribute
    (b"plain text, no tags", "plain text, no tags"),
    (b"<div " + b"a='b' " * 5000 + b">text</div>", "text"),
    (b"&#xFFFFFFFF;&bogus;&amp text <\x00p>", "\ufffd&bogus;& text <\ufffdp>"),
    (b"<p>before<!-- never closed <p>text", "before"),
    (b"<?xml version='1.0' encoding='utf-8'?><html xmlns='http://www.w3.org/1999/xhtml'><p>text</p></html>", "text"),
    (b"<![CDATA[no text]]><p>text", "text"),
    (b"\xff\xfe<\x00p\x00>\x00t\x00", "t"),
    (b"<" * 10_000, "<" * 10_000),
    (b"<base href='http://[::1'><a href='/x'>text</a>", "text"),
]
# Each of 900 links holds the next one, and so all of the text: their texts take a minute.
MUCH_WORK = b"".join(b"<a href='https://example.org/%d'><div>" % number for number in range(900)) + b"word " * 390_000
# 456,000 attributes, of which the main content is chosen on copies: about 400 MB.
MUCH_MEMORY = b"".join(b"<p " + b" ".join(b"a%d" % number for number in range(24)) + b">word " for _ in range(19_000))


def extract(service: Running, html: str | bytes, base: str = "", charset: str = "") -> pb.ExtractResponse:
    raw = html.encode() if isinstance(html, str) else html
    request = pb.ExtractRequest(html=raw, base_url=base, charset=charset)
    return service.text.Extract(request, metadata=as_user(), timeout=60)


def test_a_page_becomes_title_text_links_and_tables(service: Running) -> None:
    page = extract(service, PAGE, "https://example.org/drinks/index.html")
    assert page.title == "On kettles" and page.url == "" and not page.truncated
    assert page.text.count("The kettle boils") == 6 and "See the tea page." in page.text
    assert "never shown" not in page.text and "color" not in page.text and "Home" not in page.text
    links = {link.url: link.text for link in page.links}
    assert links == {"https://example.org/": "Home", "https://example.org/drinks/tea.html": "the tea page"}
    assert [[list(row.cells) for row in table.rows] for table in page.tables] == [[["Tea", "Degrees"], ["Green", "80"]]]


def test_without_a_base_only_absolute_links_are_returned(service: Running) -> None:
    page = extract(service, '<a href="/a">a</a><a href="https://example.org/b">b</a>')
    assert [link.url for link in page.links] == ["https://example.org/b"]


@pytest.mark.parametrize(("html", "text"), MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_html_is_read_all_the_same(service: Running, html: bytes, text: str) -> None:
    before = service.metric(CRASHES)
    page = extract(service, html)
    assert (page.text, page.truncated) == (text, False)
    assert service.metric(CRASHES) == before


def test_bytes_of_every_kind_are_read(service: Running) -> None:
    page = extract(service, bytes(range(256)) * 8)
    for words in ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789:;<=>?", "ßàáâãäå"):
        assert page.text.count(words) == 8


def test_the_encoding_is_the_callers_or_the_pages(service: Running) -> None:
    assert extract(service, "<p>Grüße</p>".encode("latin-1"), charset="latin-1").text == "Grüße"
    assert extract(service, '<meta charset="iso-8859-15"><p>5 €</p>'.encode("iso-8859-15")).text == "5 €"
    assert extract(service, "<p>Grüße</p>".encode("utf-16")).text == "Grüße"
    assert extract(service, "<p>Grüße</p>".encode("cp1252")).text == "Grüße"
    assert extract(service, "<p>Grüße</p>", charset="no-such-charset").text == "Grüße"


def test_what_is_returned_is_bounded_and_says_so(service: Running) -> None:
    """test_page.py has every limit from both sides; here the answer is one."""
    page = extract(service, "".join(f'<a href="https://example.org/{n}">{n}</a>' for n in range(1001)))
    assert len(page.links) == 1000 and page.truncated
    rows = "<tr><td>x</td></tr>" * 501
    page = extract(service, f"<table>{rows}</table>" + "<table><tr><td>a</td></tr><tr><td>b</td></tr></table>" * 50)
    assert len(page.tables) == 50 and len(page.tables[0].rows) == 500 and page.truncated
    page = extract(service, "word " * 200_001)
    assert len(page.text) == 1_000_000 and page.truncated


def test_the_limits_hold_from_both_sides(service: Running) -> None:
    largest = b"<p>" + b"a" * (2_097_152 - 3)
    assert extract(service, largest).truncated
    assert invalid(lambda: extract(service, largest + b"a")) == ["html"]
    assert invalid(lambda: extract(service, b"")) == ["html"]
    long = "https://example.org/" + "a" * 2028
    assert extract(service, "<p>x", long).text == "x"
    assert invalid(lambda: extract(service, "<p>x", long + "a")) == ["base_url"]
    assert invalid(lambda: extract(service, "<p>x", "file:///etc")) == ["base_url"]
    assert extract(service, "<p>x", charset="c" * 40).text == "x"
    assert invalid(lambda: extract(service, "<p>x", charset="c" * 41)) == ["charset"]
    assert invalid(lambda: service.text.Extract(pb.ExtractRequest(), metadata=as_user())) == ["source"]


def test_fetching_is_off_unless_configured(service: Running) -> None:
    request = pb.ExtractRequest(url="https://example.org/")
    error = fails(lambda: service.text.Extract(request, metadata=as_user()), grpc.StatusCode.FAILED_PRECONDITION)
    assert reason(error) == "FETCH_DISABLED"


def test_a_killed_process_costs_its_call_alone(start: Callable[..., Running]) -> None:
    service = start(AI_EXTRACT_PROCESSES="1")
    assert extract(service, "<p>first").text == "first"
    (pid,) = service.service.pages.pids()
    before = service.metric(CRASHES)
    os.kill(pid, signal.SIGSTOP)  # so that the call is surely under way when the process is killed
    errors: list[grpc.RpcError] = []
    thread = threading.Thread(
        target=lambda: errors.append(fails(lambda: extract(service, "<p>lost"), grpc.StatusCode.UNAVAILABLE))
    )
    thread.start()
    wait_until(lambda: len(service.service.pages.under_way()) == 1)
    os.kill(pid, signal.SIGKILL)
    thread.join(10)
    assert [reason(error) for error in errors] == ["WORKER_CRASHED"]
    assert service.metric(CRASHES) == before + 1
    assert extract(service, "<p>next").text == "next"
    assert service.service.pages.pids() != [pid]


def test_a_process_killed_while_idle_is_replaced_unnoticed(start: Callable[..., Running]) -> None:
    service = start(AI_EXTRACT_PROCESSES="1")
    extract(service, "<p>first")
    (pid,) = service.service.pages.pids()
    before = service.metric(CRASHES)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _runs(pid))
    assert extract(service, "<p>next").text == "next"
    assert service.metric(CRASHES) == before + 1


def test_a_page_that_takes_too_long_is_refused(start: Callable[..., Running]) -> None:
    service = start(AI_EXTRACT_PROCESSES="1", AI_EXTRACT_SECONDS="1")
    extract(service, "<p>first")
    (pid,) = service.service.pages.pids()
    os.kill(pid, signal.SIGSTOP)
    error = fails(lambda: extract(service, "<p>slow"), grpc.StatusCode.INVALID_ARGUMENT)
    assert fields(error) == ["html"] and reason(error) == "TOO_LARGE"
    assert not _runs(pid)
    assert extract(service, "<p>next").text == "next"


def test_a_page_of_many_elements_is_read_in_time(service: Running) -> None:
    page = extract(service, b"<p>a" * 100_000)
    assert page.text == "\n\n".join("a" * 100_000)
    deep = extract(service, b"<p>before" + b"<div>" * 50_000 + b"x")
    assert deep.text == "before" and deep.truncated


@pytest.mark.parametrize(
    ("html", "seconds", "what"),
    [(MUCH_WORK, "1", "takes too long; 1 s"), (MUCH_MEMORY, "20", "needs too much memory; 20 s")],
    ids=["work", "memory"],
)
def test_a_page_that_takes_too_much_is_refused(
    start: Callable[..., Running], html: bytes, seconds: str, what: str
) -> None:
    """Real pages at real bounds: the next call is served, and nothing counts as a crash."""
    service = start(AI_EXTRACT_PROCESSES="1", AI_EXTRACT_SECONDS=seconds, AI_EXTRACT_MEGABYTES="256")
    before = service.metric(CRASHES)
    error = fails(lambda: extract(service, html), grpc.StatusCode.INVALID_ARGUMENT)
    assert (fields(error), reason(error)) == (["html"], "TOO_LARGE")
    assert error.details() == f"html: {what} and 256 MB are allowed"
    assert extract(service, html[: len(html) // 100]).text.count("word") == html[: len(html) // 100].count(b"word")
    assert service.metric(CRASHES) == before


def test_a_full_pool_refuses_at_once(start: Callable[..., Running]) -> None:
    service = start(AI_EXTRACT_PROCESSES="1", AI_EXTRACT_QUEUE="1")
    extract(service, "<p>first")
    (pid,) = service.service.pages.pids()
    os.kill(pid, signal.SIGSTOP)
    request = pb.ExtractRequest(html=b"<p>x")
    running = service.text.Extract.future(request, metadata=as_user())
    wait_until(lambda: len(service.service.pages.under_way()) == 1)
    waiting = service.text.Extract.future(request, metadata=as_user())
    wait_until(lambda: service.metric('ai_queued_items{model="extract"}') == 1)
    error = fails(lambda: service.text.Extract(request, metadata=as_user()), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert reason(error) == "QUEUE_FULL"
    os.kill(pid, signal.SIGCONT)
    assert running.result().text == "x" and waiting.result().text == "x"


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
