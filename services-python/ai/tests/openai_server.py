"""A small OpenAI-compatible server for tests: it streams real server-sent events, and misbehaves on request."""

import asyncio
import json
import threading
from typing import Any

from aiohttp import web

WORDS = ["The ", "answer ", "is ", "in ", "[1]."]


class OpenAI:
    """Streams WORDS. `mode` makes it misbehave; it remembers requests, and whether a client left in mid-stream."""

    def __init__(self) -> None:
        self.mode = "words"
        self.requests: list[dict[str, Any]] = []
        self.authorization = ""
        self.left = 0
        # In the mode "held" it answers when this is set.
        self.released = threading.Event()

    async def listen(self) -> tuple[web.AppRunner, str]:
        """Starts to serve; returns what to clean up, and the base URL."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.complete)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    async def complete(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(await request.json())
        self.authorization = request.headers.get("authorization", "")
        if self.mode == "mute":
            await asyncio.sleep(30)
        if self.mode == "held":
            await asyncio.to_thread(self.released.wait, 20)
        if self.mode.isdigit():
            return web.Response(status=int(self.mode), headers={"retry-after": "7"}, text="{}")
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self._stream(response)
        except (ConnectionResetError, asyncio.CancelledError):
            self.left += 1
            raise
        return response

    async def _stream(self, response: web.StreamResponse) -> None:
        async def send(event: Any) -> None:
            await response.write(
                b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"
            )

        if self.mode == "at once garbage":
            await send(b"{not json")
            return
        for word in WORDS:
            await send({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
        while self.mode == "endless":
            await asyncio.sleep(0.01)
            await send({"choices": [{"index": 0, "delta": {"content": "more "}}]})
        if self.mode == "broken":
            return
        if self.mode == "garbage":
            await send(b"{not json")
            return
        await send({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await send({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 5}})
        await send(b"[DONE]")


def settings_for(url: str, number: str = "", model: str = "big-model") -> dict[str, str]:
    name = f"AI_OPENAI_{number}"
    return {
        f"{name}BASE_URL": url, f"{name}MODEL": model, f"{name}API_KEY": f"key-{number or '1'}",
        f"{name}SILENCE_SECONDS": "1",
    }  # fmt: skip
