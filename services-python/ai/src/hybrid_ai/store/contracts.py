"""Reads the contracts (.proto files) as documents: one for each service and each method, from their comments.

Only what protobuf's own style guide produces is understood; it is for reading, not for generating code.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_BLOCK = re.compile(r"(service|message|enum|oneof)\s+(\w+)\s*\{")
_METHOD = re.compile(r"rpc\s+(\w+)\s*\(\s*(?:stream\s+)?([\w.]+)\s*\)\s*returns\s*\(\s*(stream\s+)?([\w.]+)\s*\)")
_FIELD = re.compile(r"(?:(?:repeated\s+|optional\s+)?([\w.]+)(?:<[^>]*>)?\s+)?(\w+)\s*=\s*\d+")
_BINDING = re.compile(r'\b(get|put|post|delete|patch):\s*"([^"]+)"')
_LEVEL = re.compile(r"ACCESS_LEVEL_(\w+)")
_SCOPE = re.compile(r'scopes:\s*"([^"]+)"')


@dataclass
class _Method:
    name: str
    comment: str
    request: str
    response: str
    streams: bool
    options: str = ""


@dataclass
class _File:
    package: str = ""
    services: dict[str, tuple[str, list[_Method]]] = field(default_factory=dict)
    messages: dict[str, tuple[str, list[tuple[str, str, str]]]] = field(default_factory=dict)


def documents(source: str) -> Iterator[tuple[str, str, str]]:
    """(name, title, text) of every service and method in a .proto file."""
    file = _parse(source)
    for service, (comment, methods) in file.services.items():
        lines = [comment, "", "Methods:"] + [f"- {method.name}: {_first(method.comment)}" for method in methods]
        yield f"{file.package}.{service}", f"{service} ({file.package})", "\n".join(lines)
        for method in methods:
            yield f"{file.package}.{service}/{method.name}", f"{service}.{method.name}", _describe(file, method)


def _describe(file: _File, method: _Method) -> str:
    paragraphs = [method.comment]
    for verb, path in _BINDING.findall(method.options):
        paragraphs.append(f"Over HTTP: {verb.upper()} {path}.")
    if level := _LEVEL.search(method.options):
        scopes = ", ".join(_SCOPE.findall(method.options))
        paragraphs.append(f"Access: {level[1].lower()}{f', with the scope {scopes}' if scopes else ''}.")
    if method.streams:
        paragraphs.append("The response is a stream of events.")
    seen = set[str]()
    for name in (method.request, method.response):
        paragraphs.extend(_fields(file, name, seen))
    return "\n\n".join(paragraphs)


def _fields(file: _File, message: str, seen: set[str]) -> Iterator[str]:
    """A message's or an enum's comments, then those of what its fields are made of; each once."""
    if message in seen or message not in file.messages:
        return
    seen.add(message)
    comment, fields = file.messages[message]
    yield "\n".join([f"{message}: {comment}"] + [f"- {name}: {text}" for name, text, _ in fields])
    for _, _, kind in fields:
        yield from _fields(file, kind, seen)


def _first(comment: str) -> str:
    return re.split(r"(?<=\.)\s", comment, maxsplit=1)[0]


def _parse(source: str) -> _File:
    file, comment = _File(), list[str]()
    stack: list[tuple[str, str]] = []  # open blocks: (kind, name); "" for options
    method: _Method | None = None
    for line in (raw.strip() for raw in source.splitlines()):
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        text = " ".join(comment)
        if line.startswith("package "):
            file.package = line[8:].rstrip("; ")
        elif found := _METHOD.search(line):
            method = _Method(found[1], text, found[2], found[4], found[3] is not None)
            file.services[stack[-1][1]][1].append(method)
        elif (block := _BLOCK.match(line)) and block[1] == "service":
            file.services[block[2]] = (text, [])
        elif block and block[1] in ("message", "enum"):
            file.messages[block[2]] = (text, [])
        elif stack and stack[-1][0] in ("message", "enum", "oneof") and (found := _FIELD.match(line)):
            owner = next(name for kind, name in reversed(stack) if kind in ("message", "enum"))
            file.messages[owner][1].append((found[2], text, found[1] or ""))
        elif method is not None:
            method.options += line + "\n"
        _track(stack, line, block)
        comment = []
    return file


def _track(stack: list[tuple[str, str]], line: str, block: re.Match[str] | None) -> None:
    """Follows the braces of a line."""
    code = re.sub(r'"[^"]*"', "", line)
    opened, closed = code.count("{"), code.count("}")
    for index in range(opened):
        stack.append((block[1], block[2]) if block and index == 0 else ("", ""))
    for _ in range(min(closed, len(stack))):
        stack.pop()
