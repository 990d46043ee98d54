"""Real text to measure search with: the documentation that is installed on this machine, cut into passages.

Manual pages, what packages put into /usr/share/doc, and the descriptions of Python's installed packages.
"""

import gzip
import hashlib
import html
import re
import sysconfig
import zlib
from collections.abc import Iterator
from pathlib import Path

_FOLDERS = (Path("/usr/share/man"), Path("/usr/share/doc"), Path(sysconfig.get_path("purelib")))
_MANUAL = re.compile(r"\.[1-8](?:\.gz)?$")
_PROSE = (".md", ".rst", ".txt", ".html", "METADATA", "README", "README.gz")
_LARGEST = 400_000
_SHORTEST, _LONGEST = 120, 900
_PER_FILE = 60


def passages(count: int, folders: tuple[Path, ...] = _FOLDERS) -> Iterator[tuple[str, str]]:
    """(file's name, passage): at most `count` different ones, the same on every run on the same machine."""
    files = [file for folder in folders if folder.is_dir() for file in _files(folder)]
    files.sort(key=lambda file: hashlib.sha256(str(file).encode()).digest())
    seen = set[bytes]()
    for file in files:
        for passage in _cut(_read(file)):
            digest = hashlib.sha256(passage.encode()).digest()[:12]
            if digest not in seen:
                seen.add(digest)
                yield file.name, passage
                if len(seen) == count:
                    return


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        translated = folder.name == "man" and file.parent.parent != folder
        wanted = _MANUAL.search(file.name) or file.name.endswith(_PROSE)
        if wanted and not translated and file.is_file() and file.stat().st_size <= _LARGEST:
            yield file


def _read(file: Path) -> str:
    try:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error):
        return ""
    text = raw.decode("utf-8", errors="replace")
    if _MANUAL.search(file.name):
        return _manual(text)
    return html.unescape(re.sub(r"<[^>]+>", " ", text)) if file.suffix == ".html" else text


def _manual(source: str) -> str:
    """A manual page's text: macros start paragraphs, fonts and escapes go."""
    lines: list[str] = []
    for line in source.splitlines():
        if line.startswith((".B ", ".I ", ".BR ", ".IR ", ".RB ")):
            lines.append(line.split(" ", 1)[1])
        elif line.startswith((".", "'")):
            lines.append("")
        else:
            lines.append(line)
    text = re.sub(r"\\f(?:\[[^\]]*\]|.)|\\[&,/|]|\\s[-+]?\d", "", "\n".join(lines))
    return re.sub(r"\\\(..|\\\[[^\]]*\]|\\\*.", " ", text).replace("\\-", "-").replace("\\e", "\\")


def _cut(text: str) -> Iterator[str]:
    """Neighbouring paragraphs together until they are long enough to be a passage."""
    held, given = "", 0
    for paragraph in re.split(r"\n\s*\n", text):
        held = f"{held} {' '.join(paragraph.split())}".strip()
        if len(held) < _SHORTEST:
            continue
        if sum(letter.isalpha() or letter.isspace() for letter in held) > 0.8 * len(held):
            yield held[:_LONGEST]
            given += 1
        held = ""
        if given == _PER_FILE:
            return
