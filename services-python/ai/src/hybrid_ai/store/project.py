"""Fills the index with the project's own documents, so that the stack can be asked about itself.

README.md, ARCHITECTURE.md, docs/**/*.md and the contracts' comments; everybody may read them. Only what changed since
the last start is embedded; what vanished is deleted.
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hybrid_ai.identity import EVERYBODY
from hybrid_ai.store.access import access_list
from hybrid_ai.store.contracts import documents as contract_documents
from hybrid_ai.store.database import Document
from hybrid_ai.store.index import DocumentIndex

_LOG = logging.getLogger("hybrid_ai.project")
COLLECTION = "project"
OWNER = "service:ai"
_PREFIX = "project/"
_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Source:
    """A document as it is found on disk."""

    key: str
    title: str
    uri: str
    text: str

    @property
    def hash(self) -> str:
        return hashlib.sha256(f"{self.title}\0{self.uri}\0{self.text}".encode()).hexdigest()


def read_sources(root: Path) -> list[Source]:
    """Every document of the project below `root`. Blocking: it reads files."""
    return [*_markdown(root), *_contracts(root)]


async def fill(index: DocumentIndex, root: Path) -> int:
    """Brings the index in line with the files. Returns how many documents changed."""
    sources = await asyncio.to_thread(read_sources, root)
    known = await index.known_under(_PREFIX)
    changed = 0
    for source in sources:
        before = known.pop(source.key, None)
        if before is not None and not before.deleted and before.hash == source.hash:
            continue
        await _store(index, source, before.revision + 1 if before else 1)
        changed += 1
    for key, before in known.items():
        if not before.deleted:
            await index.delete(key, before.revision + 1)
            changed += 1
    _LOG.info("project documents indexed", extra={"documents": len(sources), "changed": changed})
    return changed


async def _store(index: DocumentIndex, source: Source, revision: int) -> None:
    subjects = access_list(OWNER, [EVERYBODY])
    document = Document(source.key, revision, COLLECTION, source.title, source.text, source.uri, subjects, source.hash)
    await index.index(document, patient=True)  # callers go first


def _markdown(root: Path) -> Iterator[Source]:
    files = [root / "README.md", root / "ARCHITECTURE.md", *sorted((root / "docs").glob("**/*.md"))]
    for file in files:
        if not file.is_file() or file.stat().st_size > _MAX_BYTES:
            continue
        path, text = file.relative_to(root).as_posix(), file.read_text(encoding="utf-8", errors="replace")
        heading = re.search(r"^# +(.+)$", text, re.MULTILINE)
        yield Source(_PREFIX + path, heading[1].strip() if heading else path, path, text)


def _contracts(root: Path) -> Iterator[Source]:
    for file in sorted((root / "proto" / "hybrid").glob("**/*.proto")):
        path = file.relative_to(root).as_posix()
        for name, title, text in contract_documents(file.read_text(encoding="utf-8")):
            yield Source(f"{_PREFIX}{name}", title, path, text)
