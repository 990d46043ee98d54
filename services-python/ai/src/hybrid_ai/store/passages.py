"""Splits a text into passages of at most a budget of tokens, at headings, paragraphs and sentences where possible.

Characters are bounded, too: to the tokenizer a word of a million letters, or an image within a note, is one token.

A passage is always text[offset : offset + len(passage)], word for word.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hybrid_ai.models.embedder import TextTokenizer

TOKEN_BUDGET = 200
# Four times what so many tokens of prose have. Of such passages a search's answer of 100 fits a message.
MAX_CHARACTERS = 4096
# Below this a section is too short to stand alone, and the next one joins it.
_SHORT_SECTION = 24

_BLOCK = re.compile(r"\S(?:.|\n(?![ \t]*\n|#{1,6} ))*", re.MULTILINE)
_HEADING = re.compile(r"#{1,6} ")
# A sentence's end before something that starts one, or a line's end before a list's item, a table's row or a heading.
_BOUNDARY = re.compile(r"(?<=[.!?:])[\s]+(?=[\"'(`\[*]?[A-Z0-9])|\n(?=[ \t]*(?:[-*+|]|\d+\.) )")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]`*]*\s+(?=[\"'(`\[*]?[A-Z0-9])|\n\s*\n|\n(?=[ \t]*(?:[-*+|#]|\d+\.))")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document's text, and where it starts, in characters."""

    offset: int
    text: str


@dataclass(slots=True)
class _Piece:
    start: int
    end: int
    tokens: int = 0
    block: bool = False  # starts a paragraph
    heading: bool = False  # starts a section


def split(text: str, tokenizer: TextTokenizer, budget: int = TOKEN_BUDGET) -> list[Passage]:
    """The passages of a text, in order; none for a text without words."""
    pieces = [part for block in _blocks(text) for piece in block for part in _chop(text, piece)]
    counts = tokenizer.count([text[piece.start : piece.end] for piece in pieces])
    for piece, count in zip(pieces, counts, strict=True):
        piece.tokens = count
    fitting = [part for piece in pieces for part in _cut(text, piece, tokenizer, budget)]
    return [Passage(start, text[start:end]) for start, end in _pack(fitting, budget)]


def sentences(text: str) -> list[str]:
    """The sentences, list items and rows of a passage, word for word, without the space around them."""
    return [sentence for _, sentence in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, str]]:
    """The same with where each starts, in characters of the text."""
    spans: list[tuple[int, str]] = []
    start = 0
    for end, following in [*((match.start(), match.end()) for match in _SENTENCE_END.finditer(text)), (len(text), 0)]:
        part = text[start:end]
        if sentence := part.strip():
            spans.append((start + len(part) - len(part.lstrip()), sentence))
        start = following
    return spans


def _blocks(text: str) -> Iterator[list[_Piece]]:
    """Each paragraph as pieces: its sentences, items or rows."""
    for match in _BLOCK.finditer(text):
        start, pieces = match.start(), list[_Piece]()
        for boundary in _BOUNDARY.finditer(text, match.start(), match.end()):
            if boundary.start() > start:
                pieces.append(_Piece(start, boundary.start()))
            start = boundary.end()
        end = match.start() + len(match.group().rstrip())
        if end > start:
            pieces.append(_Piece(start, end))
        pieces[0].block = True
        pieces[0].heading = _HEADING.match(match.group()) is not None
        yield pieces


def _chop(text: str, piece: _Piece) -> Iterator[_Piece]:
    """The piece itself, or parts of it that have no more characters than a passage may; between words if possible."""
    start = piece.start
    while start < piece.end:
        end = min(start + MAX_CHARACTERS, piece.end)
        if end < piece.end:
            space = max(text.rfind(" ", start + 1, end), text.rfind("\n", start + 1, end))
            end = space if space > 0 else end
        opens = start == piece.start
        if text[start:end].strip():
            yield _Piece(start, end, block=piece.block and opens, heading=piece.heading and opens)
        start = end


def _cut(text: str, piece: _Piece, tokenizer: TextTokenizer, budget: int) -> Iterator[_Piece]:
    """The piece itself, or parts of it that fit the budget."""
    if piece.tokens <= budget:
        yield piece
        return
    ends = [piece.start + end for end in tokenizer.token_ends(text[piece.start : piece.end])]
    start, first = piece.start, 0
    while first < len(ends):
        last = min(first + budget, len(ends)) - 1
        if last < len(ends) - 1:
            last = _last_word_end(text, ends, first + budget // 2, last)
        end = piece.end if last == len(ends) - 1 else ends[last]
        opens = start == piece.start
        yield _Piece(start, end, last - first + 1, piece.block and opens, piece.heading and opens)
        start, first = end, last + 1


def _last_word_end(text: str, ends: list[int], low: int, high: int) -> int:
    """The last token from `low` to `high` that ends a word; `high` where none does."""
    return next((index for index in range(high, low, -1) if text[ends[index]].isspace()), high)


def _pack(pieces: list[_Piece], budget: int) -> Iterator[tuple[int, int]]:
    """Joins neighbours while they fit; a section or a paragraph that would be torn starts a new passage."""
    blocks = _block_sizes(pieces)
    start, end, used = 0, 0, 0
    for index, piece in enumerate(pieces):
        section = piece.heading and used >= _SHORT_SECTION
        torn = piece.block and used + blocks[index] > budget and used >= budget // 4
        long = piece.end - start > MAX_CHARACTERS
        if used and (section or torn or long or used + piece.tokens > budget):
            yield start, end
            used = 0
        if not used:
            start = piece.start
        end = piece.end
        used += max(piece.tokens, 1)
    if used:
        yield start, end


def _block_sizes(pieces: list[_Piece]) -> list[int]:
    """For each piece that starts a paragraph, the paragraph's tokens."""
    sizes = [0] * len(pieces)
    head = 0
    for index, piece in enumerate(pieces):
        if piece.block:
            head = index
        sizes[head] += piece.tokens
    return sizes
