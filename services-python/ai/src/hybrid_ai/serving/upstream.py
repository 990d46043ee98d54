"""An OpenAI-compatible server as the generator: streaming chat completions over HTTP.

Closing the stream closes the connection, which such servers take as the sign to stop generating.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any

from hybrid_ai import telemetry
from hybrid_ai.config import Upstream
from hybrid_ai.errors import InvalidArgument, Overloaded, Unavailable
from hybrid_ai.models.language_model import Generation, Usage, engine_seed

if TYPE_CHECKING:
    import aiohttp

_CONNECT_SECONDS = 5.0
_MAX_RETRY_SECONDS = 60.0


class UpstreamGenerator:
    """Writes by a configured upstream. Errors name what went wrong, never what was asked."""

    notice = ""

    def __init__(self, upstream: Upstream) -> None:
        self.model = upstream.model
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def generate(self, request: Generation) -> AsyncGenerator[str | Usage, None]:
        """Raises Unavailable, Overloaded or InvalidArgument as the upstream's answer says."""
        import aiohttp

        telemetry.GENERATIONS_ACTIVE.inc()
        ended = False
        try:
            async with contextlib.aclosing(self._events(request)) as events:
                async for piece in events:
                    ended = isinstance(piece, Usage)
                    yield piece
        except (asyncio.CancelledError, GeneratorExit):
            if not ended:
                telemetry.CANCELLED.labels("tokens").inc()
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable(f"the configured upstream failed ({type(error).__name__})") from error
        finally:
            telemetry.GENERATIONS_ACTIVE.dec()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _events(self, request: Generation) -> AsyncGenerator[str | Usage, None]:
        started, usage, finish = time.perf_counter(), dict[str, Any](), ""
        session = self._open()
        async with session.post(f"{self._upstream.base_url}/chat/completions", json=self._body(request)) as response:
            if response.status != 200:
                raise _refusal(response.status, response.headers.get("retry-after", ""))
            async for event in _server_sent_events(response.content):
                if "error" in event:
                    raise Unavailable("the configured upstream broke off with an error")
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    finish = choice.get("finish_reason") or finish
                    if text := (choice.get("delta") or {}).get("content"):
                        yield text
        if not finish:
            raise Unavailable("the configured upstream ended its stream early")
        written = int(usage.get("completion_tokens") or 0)
        telemetry.TOKENS.labels(self.model, "written").inc(written)
        telemetry.TOKENS_PER_SECOND.labels(self.model).set(written / (time.perf_counter() - started))
        yield Usage("length" if finish == "length" else "stop", int(usage.get("prompt_tokens") or 0), written)

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp  # only a service with an upstream pays for it

        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._upstream.silence_seconds
            )
            key = self._upstream.api_key
            headers = {"authorization": f"Bearer {key}"} if key else None
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers)
        return self._session

    def _body(self, request: Generation) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": role, "content": content} for role, content in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            body["seed"] = engine_seed(request.seed)
        if request.stop:
            body["stop"] = list(request.stop)
        return body


async def _server_sent_events(lines: AsyncIterable[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON of each `data:` line, until [DONE]."""
    async for raw in lines:
        line = raw.strip()
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise Unavailable("the configured upstream sent something that is not JSON") from None
        if isinstance(event, dict):
            yield event


def _refusal(status: int, retry_after: str) -> Exception:
    if status == 429:
        seconds = float(retry_after) if retry_after.isdigit() else 1.0
        return Overloaded("the configured upstream is overloaded", min(seconds, _MAX_RETRY_SECONDS))
    if status in (400, 413, 422):
        return InvalidArgument([("messages", f"were refused by the configured upstream (HTTP {status})")])
    return Unavailable(f"the configured upstream answered HTTP {status}")
