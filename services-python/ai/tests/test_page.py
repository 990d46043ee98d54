"""A page by itself, without a service: every limit of what is returned, from both sides, and what memory does to it."""

import resource
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from hybrid_ai.models.page import Page, extract

BASE = "https://example.org/"
TWO_ROWS = "<table><tr><td>a</td></tr><tr><td>b</td></tr></table>"


def read(html: str) -> Page:
    return extract(html.encode(), BASE, "")


def links(count: int) -> str:
    return "".join(f'<a href="/{number}">{number}</a>' for number in range(count))


def link(url: int, text: int = 1) -> str:
    """A link whose URL and text have so many characters."""
    return f'<a href="/{"u" * (url - len(BASE))}">{"l" * text}</a>'


def rows(count: int, columns: int = 1, cell: str = "x") -> str:
    return "<table>" + ("<tr>" + f"<td>{cell}</td>" * columns + "</tr>") * count + "</table>"


def nested(depth: int) -> str:
    """The deepest element is the depth-th: html and body are two of them."""
    return "<div>" * (depth - 2) + "deep" + "</div>" * (depth - 2) + "<p>after"


def total(page: Page, part: int) -> int:
    """The characters of the links' URLs (0) or texts (1)."""
    return sum(len(link[part]) for link in page.links)


# What has a limit: a page at it and one just above, how to measure it, the limit, and what is left of what is above.
Measure = Callable[[Page], int]
LIMITS: dict[str, tuple[str, str, Measure, int, int]] = {
    "title": (f"<title>{'t' * 500}", f"<title>{'t' * 501}", lambda page: len(page.title), 500, 500),
    "text": ("a" * 1_000_000, "a" * 1_000_001, lambda page: len(page.text), 1_000_000, 1_000_000),
    "links": (links(1_000), links(1_001), lambda page: len(page.links), 1_000, 1_000),
    "a link's URL": (link(2_048), link(2_049), lambda page: total(page, 0), 2_048, 0),
    "a link's text": (link(99, 500), link(99, 501), lambda page: total(page, 1), 500, 500),
    "tables": (TWO_ROWS * 50, TWO_ROWS * 51, lambda page: len(page.tables), 50, 50),
    "rows": (rows(500), rows(501), lambda page: len(page.tables[0]), 500, 500),
    "columns": (rows(2, 50), rows(2, 51), lambda page: len(page.tables[0][1]), 50, 50),
    "a cell": (rows(2, 1, "c" * 1_000), rows(2, 1, "c" * 1_001), lambda page: len(page.tables[0][1][0]), 1_000, 1_000),
    "depth": (nested(2_048), nested(2_049), lambda page: len(page.text.split()), 2, 0),
}


@pytest.mark.parametrize("what", LIMITS)
def test_at_a_limit_all_is_kept_and_above_it_the_page_is_truncated(what: str) -> None:
    """Above it, what is cut is cut to the limit; a URL that is too long, and what is too deep, is left out."""
    at, above, measure, most, left = LIMITS[what]
    page = read(at)
    assert (measure(page), page.truncated) == (most, False)
    page = read(above)
    assert (measure(page), page.truncated) == (left, True)


def test_white_space_does_not_count() -> None:
    page = read(f"<title> {'t' * 250}\n\n {'t' * 249} </title><a href='/'>\n{'l' * 500}\n</a>")
    assert len(page.title) == 500 and len(page.links[0][1]) == 500 and not page.truncated


def test_a_table_that_is_not_returned_cuts_nothing_off() -> None:
    page = read(rows(1, 51, "c" * 1_001))  # one row is no table
    assert page.tables == [] and not page.truncated


def test_what_is_nested_deeply_is_read_whole_with_what_follows() -> None:
    """readability's own parser stops at 256, so that the main content is not chosen there."""
    sentence = "The kettle boils at a hundred degrees, and tea needs that; most people know it well enough. "
    page = read(f"<article>{f'<p>{sentence}' * 10}</article>" + nested(1_000))
    assert page.text.count("kettle") == 10 and page.text.endswith("deep\n\nafter") and not page.truncated


MANY_ELEMENTS = "<p>ł" * 419_000
MANY_ATTRIBUTES = ("<p " + " ".join(f"a{number}" for number in range(24)) + ">word ") * 19_000


@pytest.mark.parametrize(
    ("html", "megabytes"),
    [(MANY_ELEMENTS, 40), (MANY_ATTRIBUTES, 90), (MANY_ATTRIBUTES, 120)],
    ids=["libxml2", "readability's parser", "readability"],
)
def test_a_lack_of_memory_is_an_error_whoever_lacks_it(html: str, megabytes: int) -> None:
    """libxml2 only logs it, which would leave an empty page; what readability gives up on is else read without it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read_within, args=(theirs, html, megabytes))
    process.start()
    assert ours.poll(20) and ours.recv() == "MemoryError"
    process.join(5)


def _read_within(pipe: Connection, html: str, megabytes: int) -> None:
    """Reads the page with so much more address space than the process has already."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    extract(b"<p>warm", BASE, "")
    most = used + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        page = read(html)
        pipe.send(f"{len(page.text)} characters")
    except BaseException as error:
        pipe.send(type(error).__name__)
