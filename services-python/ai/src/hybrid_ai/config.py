"""The service's configuration, and the only reader of the environment.

A bad value is a ConfigError that names the key, the value and what is allowed. `NAME_FILE` gives a secret's file.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SERVICE_FOLDER = Path(__file__).resolve().parent.parent.parent

_MOST_UPSTREAMS = 9
_NUMBERED = re.compile(r"AI_OPENAI_(\d+)_")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(Exception):
    """A key has a value that cannot be used."""


@dataclass(frozen=True)
class Upstream:
    """An OpenAI-compatible server that writes answers and chats instead of the model here."""

    base_url: str
    model: str
    api_key: str
    silence_seconds: float  # without a piece of its answer: then it has failed


@dataclass(frozen=True)
class Config:
    """Every setting, checked. README.md has the table of keys."""

    secret: bytes
    listen: str
    metrics_listen: str
    data_dir: Path
    models_dir: Path
    documents_dir: Path | None
    upstreams: tuple[Upstream, ...]  # the first one's model writes answers and chats that name no model
    fallback: bool  # whether the model here, or extraction, stands in for them
    log_format: str
    log_level: str
    embed_threads: int  # of onnxruntime
    chat_threads: (
        int  # of llama.cpp, whose threads wait for each other busily: fewer than cores, where cores are shared
    )
    embed_queue: int  # texts that may wait
    embed_batch_tokens: int  # padded tokens in one run of the embedder
    chat_queue: int  # chats that may wait
    chat_context: int  # tokens that a chat may have, its prompt included
    chat_load: str  # "lazy": at first use; "background": after start; "start": before the service is ready
    extract_processes: int  # that read pages
    extract_queue: int  # pages that may wait
    extract_megabytes: int  # of address space that each such process may take
    extract_seconds: int  # that one page may take
    extract_fetch: bool  # whether pages are fetched by URL
    extract_fetch_allow: tuple[Network, ...]  # networks that are let in besides the public internet
    processes: int  # that share the port
    process: int  # which of them this one is, from 0; set by the supervisor
    supervisor: int  # the descriptor of the line to the supervisor; -1: there is none
    otlp_endpoint: str  # where spans are sent; empty: nowhere
    shutdown_seconds: float


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def text(self, key: str, default: str) -> str:
        return self.environment.get(key, "").strip() or default

    def secret(self, key: str) -> str:
        value, file = self.text(key, ""), self.text(key + "_FILE", "")
        if value and file:
            raise ConfigError(f"{key} and {key}_FILE are both set; only one is allowed")
        if not file:
            return value
        try:
            return Path(file).read_text().strip()
        except OSError as error:
            raise ConfigError(
                f"{key}_FILE={file!r}: cannot be read ({error.strerror}); a readable file is needed"
            ) from None

    def choice(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise ConfigError(f"{key}={value!r}: allowed are {', '.join(allowed)}")
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.text(key, str(default))
        if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
            raise ConfigError(f"{key}={value!r}: allowed is a whole number from {low} to {high}")
        return int(value)

    def networks(self, key: str) -> tuple[Network, ...]:
        value = self.text(key, "")
        try:
            return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError as error:
            raise ConfigError(
                f"{key}={value!r}: {error}; allowed are networks, for example 10.1.0.0/16,fd00::/8"
            ) from None

    def url(self, key: str) -> str:
        value = self.text(key, "").rstrip("/")
        if value and not value.startswith(("http://", "https://")):
            raise ConfigError(f"{key}={value!r}: allowed is an http:// or https:// URL, for example http://host:4317")
        return value

    def address(self, key: str, default: str) -> str:
        value = self.text(key, default)
        host, colon, port = value.rpartition(":")
        if not host or not colon or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"{key}={value!r}: allowed is host:port, for example {default}")
        return value


def load(environment: Mapping[str, str] | None = None) -> Config:
    """Reads and checks the configuration. Raises ConfigError."""
    read = _Reader(os.environ if environment is None else environment)
    secret = read.secret("SERVICE_SECRET").encode()
    if len(secret) < 32:
        raise ConfigError(f"SERVICE_SECRET: {len(secret)} bytes long; at least 32 are needed (or SERVICE_SECRET_FILE)")
    cores = os.cpu_count() or 1
    return Config(
        secret=secret,
        listen=read.address("AI_LISTEN", "127.0.0.1:8092"),
        metrics_listen=read.address("AI_METRICS_LISTEN", "127.0.0.1:8093"),
        data_dir=Path(read.text("AI_DATA_DIR", str(SERVICE_FOLDER / ".data"))),
        models_dir=Path(read.text("AI_MODELS_DIR", str(SERVICE_FOLDER / ".models"))),
        documents_dir=_documents_dir(read),
        upstreams=_upstreams(read),
        fallback=read.choice("AI_OPENAI_FALLBACK", "local", ("local", "none")) == "local",
        log_format=read.choice("LOG_FORMAT", "human", ("human", "json")),
        log_level=read.choice("LOG_LEVEL", "info", ("debug", "info", "warning", "warn", "error")),
        embed_threads=read.integer("AI_EMBED_THREADS", min(cores, 4), 1, 256),
        chat_threads=read.integer("AI_CHAT_THREADS", max(1, cores // 2), 1, 256),
        embed_queue=read.integer("AI_EMBED_QUEUE", 4096, 256, 1_000_000),
        embed_batch_tokens=read.integer("AI_EMBED_BATCH_TOKENS", 256, 256, 65_536),
        chat_queue=read.integer("AI_CHAT_QUEUE", 16, 1, 10_000),
        chat_context=read.integer("AI_CHAT_CONTEXT", 2048, 512, 8192),
        chat_load=read.choice("AI_CHAT_LOAD", "lazy", ("lazy", "background", "start")),
        extract_processes=read.integer("AI_EXTRACT_PROCESSES", max(1, cores // 2), 1, 64),
        extract_queue=read.integer("AI_EXTRACT_QUEUE", 32, 1, 10_000),
        extract_megabytes=read.integer("AI_EXTRACT_MEGABYTES", 512, 256, 65_536),
        extract_seconds=read.integer("AI_EXTRACT_SECONDS", 10, 1, 600),
        extract_fetch=read.choice("AI_EXTRACT_FETCH", "off", ("off", "on")) == "on",
        extract_fetch_allow=read.networks("AI_EXTRACT_FETCH_ALLOW"),
        processes=read.integer("AI_PROCESSES", 1, 1, 64),
        process=read.integer("AI_PROCESS", 0, 0, 63),
        supervisor=read.integer("AI_SUPERVISOR", 0, 0, 1 << 20) or -1,
        otlp_endpoint=read.url("OTEL_EXPORTER_OTLP_ENDPOINT"),
        shutdown_seconds=float(read.integer("AI_SHUTDOWN_SECONDS", 10, 0, 600)),
    )


def _documents_dir(read: _Reader) -> Path | None:
    """Unset: the repository's root. Set but empty: no documents."""
    if "AI_DOCUMENTS_DIR" in read.environment and not read.environment["AI_DOCUMENTS_DIR"].strip():
        return None
    folder = Path(read.text("AI_DOCUMENTS_DIR", str(SERVICE_FOLDER.parent.parent)))
    if not folder.is_dir():
        raise ConfigError(f"AI_DOCUMENTS_DIR={str(folder)!r}: is not a folder; a folder, or nothing, is allowed")
    return folder


def _upstreams(read: _Reader) -> tuple[Upstream, ...]:
    """AI_OPENAI_… is the first one, AI_OPENAI_2_… the second, and so on."""
    for key, value in read.environment.items():
        number = _NUMBERED.match(key)
        if number is not None and value.strip() and number[1] not in map(str, range(2, _MOST_UPSTREAMS + 1)):
            allowed = f"AI_OPENAI_… is the first upstream, and AI_OPENAI_2_… to AI_OPENAI_{_MOST_UPSTREAMS}_… are more"
            raise ConfigError(f"{key}: there is no such number; {allowed}")
    names = ["AI_OPENAI_", *(f"AI_OPENAI_{number}_" for number in range(2, _MOST_UPSTREAMS + 1))]
    found = [_upstream(read, name) for name in names]
    count = sum(one is not None for one in found)
    if None in found[:count]:
        missing = names[found.index(None)]
        raise ConfigError(f"{missing}BASE_URL: is not set, but a later one is; they are numbered without a gap")
    return tuple(one for one in found if one is not None)


def _upstream(read: _Reader, name: str) -> Upstream | None:
    url, model, key = read.url(f"{name}BASE_URL"), read.text(f"{name}MODEL", ""), read.secret(f"{name}API_KEY")
    if not url:
        if model or key:
            raise ConfigError(f"{name}BASE_URL: is needed where {name}{'MODEL' if model else 'API_KEY'} is set")
        return None
    if not model:
        raise ConfigError(f"{name}MODEL='': a model's name is needed where {name}BASE_URL is set")
    return Upstream(url, model, key, silence_seconds=float(read.integer(f"{name}SILENCE_SECONDS", 60, 1, 600)))
