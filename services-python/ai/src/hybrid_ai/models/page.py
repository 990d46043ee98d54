"""Reads a page: title, readable text, links and tables of HTML as it is found, malformed or not.

The main content is chosen by readability-lxml; the rest is read from lxml's tree. Runs in a process of a pool, so this
module imports nothing of the service. Results are bounded whatever the page holds.
"""

import contextlib
import logging
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from lxml import etree, html
from readability import Document

logging.getLogger("readability").addHandler(logging.NullHandler())  # else what it gives up on is in the service's log

MAX_TEXT, MAX_LINKS, MAX_TABLES, MAX_ROWS, MAX_COLUMNS, MAX_CELL = 1_000_000, 1000, 50, 500, 50, 1000
_MAX_LABEL, _MAX_URL = 500, 2048
# The main content of a larger tree would take many seconds to find; such a page is read whole.
_MAX_ELEMENTS = 20_000
# libxml2 reports in its log, not by an error, what it gave up on: nesting deeper than 256, or 2,048 where asked to.
_TOO_DEEP, _NO_MEMORY = "ERR_RESOURCE_LIMIT", "ERR_NO_MEMORY"
_UNREADABLE = ("script", "style", "noscript", "template", "svg", "iframe", "object", "head")
_BLOCKS = frozenset(
    "address article aside blockquote br dd div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header"
    " hr li main nav ol p pre section table tr ul".split()
)
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w-]{1,40})""", re.IGNORECASE)
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
# Below this many characters the chosen content is taken for a mistake, and the whole page is read.
_MIN_CONTENT = 200


@dataclass
class Page:
    """What was read. Links are absolute, as (URL, text); tables are rows of cells."""

    title: str = ""
    text: str = ""
    links: list[tuple[str, str]] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    truncated: bool = False


def extract(raw: bytes, url: str, charset: str) -> Page:
    """Reads a page. `url` is what relative links are relative to; `charset` what the server said, if anything."""
    try:
        return _read(_decode(raw, charset), url)
    except etree.XPathError as error:  # the expressions are fixed: nothing else makes them fail
        raise MemoryError from error


def _read(source: str, url: str) -> Page:
    page = Page()
    tree, deep = _parse(source)
    if deep:
        tree, page.truncated = _parse(source, deeper=True)
    if tree is None:
        return page
    page.title = _cut(page, next((element.text_content() for element in tree.iter("title")), ""), _MAX_LABEL)
    _read_links(tree, _base(tree, url), page)
    _read_tables(tree, page)
    for element in list(tree.iter(*_UNREADABLE)):
        if element.getparent() is not None:
            element.drop_tree()
    whole = _text(tree)
    # readability's own parser would drop what is nested deeply.
    choose = len(whole) > _MIN_CONTENT and not deep and sum(1 for _ in tree.iter()) <= _MAX_ELEMENTS
    text = _main_text(source) if choose else whole
    page.text = text if len(text) >= min(_MIN_CONTENT, len(whole)) else whole
    if len(page.text) > MAX_TEXT:
        page.text, page.truncated = page.text[:MAX_TEXT], True
    return page


def _decode(raw: bytes, charset: str) -> str:
    """As browsers do: a mark at the start, then what the server said, then the page itself, then UTF-8 or Windows'."""
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), "")
    meta = _META.search(raw[:4096])
    for name in (marked, charset, meta[1].decode("ascii", "replace") if meta else "", "utf-8"):
        try:
            return raw.decode(name).lstrip("\ufeff").replace("\0", "") if name else raw.decode("utf-8")
        except (LookupError, UnicodeDecodeError):
            continue
    return raw.decode("windows-1252", "replace").replace("\0", "")


def _parse(source: str, deeper: bool = False) -> tuple[Any, bool]:
    """The tree, None where nothing makes one, and whether the parser stopped at elements that are nested too deeply."""
    parser = html.HTMLParser(remove_comments=True, remove_pis=True, huge_tree=deeper, recover=True)
    tree = None
    with contextlib.suppress(etree.ParserError, etree.XMLSyntaxError, AssertionError):
        tree = html.document_fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", source), parser=parser)
    problems = {entry.type_name for entry in parser.error_log}
    if _NO_MEMORY in problems:
        raise MemoryError
    return tree, _TOO_DEEP in problems


def _main_text(source: str) -> str:
    try:
        summary = Document(source).summary(html_partial=True)
        return _text(html.fragment_fromstring(summary, create_parent="div"))
    except Exception as error:  # readability gives up on some trees with errors of every kind: the whole page is read
        cause = error.__context__
        log = getattr(cause, "error_log", ())
        if isinstance(cause, MemoryError | etree.XPathError) or any(entry.type_name == _NO_MEMORY for entry in log):
            raise MemoryError from error
        return ""


def _text(root: Any) -> str:
    """The words in reading order: blocks on lines of their own, paragraphs apart. Without recursion."""
    pieces: list[str] = []
    for event, element in etree.iterwalk(root, events=("start", "end")):
        block = element.tag in _BLOCKS
        if block:
            pieces.append("\n")
        if event == "start" and element.text:
            pieces.append(re.sub(r"\s+", " ", element.text))
        if event == "end" and element.tag in ("td", "th"):
            pieces.append(" ")
        if event == "end" and element.tail and element is not root:
            pieces.append(re.sub(r"\s+", " ", element.tail))
    lines = (re.sub(r" +", " ", line).strip() for line in "".join(pieces).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _base(tree: Any, url: str) -> str:
    """What the page's links are relative to."""
    try:
        return urljoin(url, next((str(element.get("href", "")) for element in tree.iter("base")), ""))
    except ValueError:
        return url


def _read_links(tree: Any, base: str, page: Page) -> None:
    seen = set[str]()
    for element in tree.iter("a"):
        try:
            url = urljoin(base, element.get("href", "").strip())
            scheme = urlsplit(url).scheme
        except ValueError:
            continue
        if scheme not in ("http", "https") or url in seen:
            continue
        if len(url) > _MAX_URL:
            page.truncated = True
            continue
        if len(page.links) == MAX_LINKS:
            page.truncated = True
            return
        seen.add(url)
        page.links.append((url, _cut(page, element.text_content(), _MAX_LABEL)))


def _read_tables(tree: Any, page: Page) -> None:
    for table in tree.iter("table"):
        if table.find(".//table") is not None:  # a table that only lays out others
            continue
        rows = [_cells(row) for row in table.iter("tr")]
        rows = [row for row in rows if any(row)]
        if len(rows) < 2:
            continue
        if len(page.tables) == MAX_TABLES or len(rows) > MAX_ROWS or any(len(row) > MAX_COLUMNS for row in rows):
            page.truncated = True
        if len(page.tables) == MAX_TABLES:
            return
        page.tables.append([[_cut(page, cell, MAX_CELL) for cell in row[:MAX_COLUMNS]] for row in rows[:MAX_ROWS]])


def _cells(row: Any) -> list[str]:
    """A row's cells, each with at most one character more than it may have: it tells that there are more."""
    return [_line(cell.text_content())[: MAX_CELL + 1] for cell in row.iter("td", "th")]


def _cut(page: Page, text: str, most: int) -> str:
    """The text on one line, of which the page is said to lack what is too long."""
    line = _line(text)
    page.truncated |= len(line) > most
    return line[:most]


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
