"""The small language model for demonstration: SmolLM2-135M-Instruct (Q4) on llama.cpp, through xllamacpp.

Generation calls back for every token, and stops at once where the callback says so.
"""

import json
import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL_NAME = "SmolLM2-135M-Instruct"
NOTICE = "A small model (135 million parameters) for demonstration: it writes fluently and is often wrong."
# Tokens of a prompt read in one go: the shortest time in which a reading prompt notices that it was cancelled.
_PROMPT_BATCH = 32


class PromptTooLong(Exception):
    """The prompt leaves no room in the model's context."""

    def __init__(self, tokens: int, context: int) -> None:
        super().__init__(f"{tokens} tokens, the model's context is {context}")
        self.tokens = tokens
        self.context = context


class GenerationFailed(Exception):
    """The engine refused or broke off."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A prompt and its settings. `messages` are (role, content); the text ends before any of `stop`."""

    messages: Sequence[tuple[str, str]]
    max_tokens: int
    temperature: float
    seed: int | None
    stop: Sequence[str] = ()


def engine_seed(seed: int) -> int:
    """The seed as engines take it: 32 bits, but for the largest number, by which llama.cpp means a random one."""
    return seed % 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Usage:
    """How a generation ended. `finish` is "stop" or "length"."""

    finish: str
    prompt_tokens: int
    completion_tokens: int


class LanguageModel:
    """Runs the model; one generation at a time."""

    def __init__(self, models_dir: Path, threads: int, context: int) -> None:
        import xllamacpp  # loading the library takes time and memory, which a service without chats does not spend

        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(models_dir / "smollm2.gguf")
        parameters.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_MMAP
        parameters.n_ctx = context
        parameters.n_batch = parameters.n_ubatch = _PROMPT_BATCH
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.cpuparams.poll = parameters.cpuparams_batch.poll = 0
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_Q8_0
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.cache_ram_mib = parameters.n_ctx_checkpoints = 0
        parameters.warmup = parameters.fit_params = parameters.ui = parameters.endpoint_slots = False
        parameters.verbosity = 0
        # The engine insists on listening: a socket file in a folder of this user's alone, and a key nobody is told.
        self._folder = tempfile.TemporaryDirectory(prefix="hybrid-ai-")
        parameters.hostnames = [str(Path(self._folder.name) / "engine.sock")]
        parameters.api_keys = [secrets.token_hex(32)]
        parameters.n_threads_http = 1
        self._server = xllamacpp.Server(parameters)

    def generate(
        self, request: Generation, on_text: Callable[[str], None], stopped: Callable[[], bool]
    ) -> Usage | None:
        """Writes until done, or until `stopped`; then None. Raises PromptTooLong, GenerationFailed."""
        body: dict[str, Any] = {
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,  # an event for each piece of the prompt, so that reading can be stopped too
            "cache_prompt": False,  # the same seed gives the same text, whatever was asked before
        }
        if request.seed is not None:
            body["seed"] = engine_seed(request.seed)
        if request.stop:
            body["stop"] = list(request.stop)
        collected: dict[str, Any] = {"finish": "stop"}

        def on_event(raw: str) -> bool:
            if stopped():
                return True
            _collect(json.loads(raw), collected, on_text)
            return False

        self._server.handle_chat_completions(json.dumps(body), on_event)
        if stopped():
            return None
        if "error" in collected:
            raise _failure(collected["error"])
        usage = collected.get("usage", {})
        return Usage(collected["finish"], int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))

    def close(self) -> None:
        """Ends the engine's threads and removes its socket."""
        del self._server
        self._folder.cleanup()


def _collect(event: dict[str, Any], collected: dict[str, Any], on_text: Callable[[str], None]) -> None:
    """Takes text, the reason of the end, usage or an error out of one event."""
    if "error" in event:
        collected["error"] = event["error"]
    if "usage" in event:
        collected["usage"] = event["usage"]
    for choice in event.get("choices", ()):
        text = choice.get("delta", {}).get("content")
        if text:
            on_text(text)
        if choice.get("finish_reason"):
            collected["finish"] = choice["finish_reason"]


def _failure(error: dict[str, Any]) -> Exception:
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLong(int(error.get("n_prompt_tokens", 0)), int(error.get("n_ctx", 0)))
    return GenerationFailed(str(error.get("message", "the engine failed")))
