"""Fairness as callers see it: a flood of one caller's texts is not in the way of another's few."""

from typing import Any

from conftest import Running, as_user, wait_until
from hybrid.ai.v1.text_service_pb2 import EmbedRequest

WAITING = 'ai_queued_items{model="embed"}'
# As many texts a call as are still interactive: bulk work would give way to others' whoever they are.
AT_ONCE, CALLS = 16, 94
TEXT = "An event loop waits for many sockets at once, and a batch gathers requests. "


def test_a_few_texts_do_not_wait_for_another_caller_s_flood(service: Running) -> None:
    def embed(subject: str) -> Any:
        return service.text.Embed.future(EmbedRequest(texts=[TEXT * 2] * AT_ONCE), metadata=as_user(subject))

    flood = [embed("alice") for _ in range(CALLS)]
    wait_until(lambda: service.metric(WAITING) > 1_250)
    few = embed("bob")
    few.result(20)
    waiting = service.metric(WAITING)
    assert waiting > 1_000, f"{CALLS * AT_ONCE - waiting:.0f} of the flood's texts came before"
    for one in flood:
        one.cancel()
