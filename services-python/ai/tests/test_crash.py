"""Crashes: whatever was acknowledged before SIGKILL is there afterwards, and every deletion stays deleted."""

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import grpc
import pytest
from conftest import SECRET, as_service, as_user, metric
from hybrid.ai.v1 import recommend_service_pb2, recommend_service_pb2_grpc, search_service_pb2_grpc
from hybrid.ai.v1 import search_service_pb2 as pb

ROUNDS = 4
WRITERS = 4


class Process:
    """The service as a process of its own; `ready` waits for its log line."""

    def __init__(self, folder: Path, overrides: Mapping[str, str] | None = None) -> None:
        environment = os.environ | {
            "SERVICE_SECRET": SECRET, "AI_LISTEN": "127.0.0.1:0", "AI_METRICS_LISTEN": "127.0.0.1:0",
            "AI_DATA_DIR": str(folder), "AI_DOCUMENTS_DIR": "", "LOG_FORMAT": "human", "LOG_LEVEL": "info",
        } | (overrides or {})  # fmt: skip
        command = [sys.executable, "-m", "hybrid_ai"]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        ready = re.compile(r" ready .*listen=127.0.0.1:(\d+) metrics_port=(\d+)")
        # A supervisor's line is the last: its processes have none of their own metrics.
        found = (match for line in self.process.stderr if (match := ready.search(line)) and match[2] != "0")
        self.port, self.metrics_port = map(int, next(found).groups())
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options)
        self.search = search_service_pb2_grpc.SearchServiceStub(self.channel)
        self.recommend = recommend_service_pb2_grpc.RecommendServiceStub(self.channel)

    def metric(self, sample: str) -> float:
        return metric(self.metrics_port, sample)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.channel.close()
        return code


class Writer(threading.Thread):
    """Indexes and deletes documents of its own until the service is gone; remembers what was acknowledged."""

    def __init__(self, service: Process, number: int, state: dict[str, tuple[int, bool]], seed: int) -> None:
        super().__init__(daemon=True)
        self.service, self.number, self.state = service, number, state
        self.chance = random.Random(seed)
        self.pending: dict[str, tuple[int, bool]] = {}

    def run(self) -> None:
        while True:
            key = f"w{self.number}/{self.chance.randrange(5)}"
            revision, deletes = self.state.get(key, (0, False))[0] + 1, self.chance.random() < 0.3
            self.pending = {key: (revision, deletes)}
            try:
                if deletes:
                    request = pb.DeleteRequest(document_id=key, revision=revision)
                    self.service.search.Delete(request, metadata=as_service())
                else:
                    text = f"Walrus revision {revision}."
                    document = pb.Document(id=key, revision=revision, text=text, owner="alice")
                    self.service.search.Index(pb.IndexRequest(document=document), metadata=as_service())
            except grpc.RpcError:
                return
            self.state[key] = (revision, deletes)
            self.pending = {}


def check(service: Process, state: dict[str, tuple[int, bool]], pending: dict[str, tuple[int, bool]]) -> None:
    """Both halves of retrieval hold exactly what was acknowledged; what was under way may be there or not."""
    for mode in (pb.SEARCH_MODE_TEXT, pb.SEARCH_MODE_VECTOR):
        request = pb.SearchRequest(query="walrus", mode=mode, limit=100)
        results = service.search.Search(request, metadata=as_user("alice")).results
        found = {result.document_id: result.revision for result in results}
        assert len(found) == len(results)
        for key in state.keys() | pending.keys() | found.keys():
            states = [state.get(key, (0, True))] + ([pending[key]] if key in pending else [])
            allowed = {0 if deleted else revision for revision, deleted in states}
            assert found.get(key, 0) in allowed, (key, mode)
    for key, (revision, deleted) in state.items():
        if deleted and key not in pending:
            document = pb.Document(id=key, revision=revision, text="Walrus again.", owner="alice")
            outcome = service.search.Index(pb.IndexRequest(document=document), metadata=as_service()).outcome
            assert outcome == pb.INDEX_OUTCOME_DELETED, key


def test_acknowledged_changes_survive_sigkill(tmp_path: Path) -> None:
    state: dict[str, tuple[int, bool]] = {}
    chance = random.Random(7)
    service = Process(tmp_path)
    for number in range(ROUNDS):
        writers = [Writer(service, index, state, seed=number * 10 + index) for index in range(WRITERS)]
        for writer in writers:
            writer.start()
        writers[0].join(chance.uniform(0.1, 0.6))  # a random moment for the crash
        service.end(signal.SIGKILL)
        pending: dict[str, tuple[int, bool]] = {}
        for writer in writers:
            writer.join(10)
            pending |= writer.pending
        service = Process(tmp_path)
        check(service, state, pending)
        for key, change in pending.items():  # continue from a revision that is newer than whatever was kept
            state[key] = (change[0] + 1, True)
            service.search.Delete(pb.DeleteRequest(document_id=key, revision=change[0] + 1), metadata=as_service())
    assert len(state) > WRITERS
    assert service.end(signal.SIGTERM) == 0


def test_acknowledged_interactions_survive_sigkill(tmp_path: Path) -> None:
    """A stream of clicks is cut off by the crash; each one that was answered is there afterwards, once."""

    def clicks(keys: Iterable[str]) -> Iterator[recommend_service_pb2.RecordInteractionRequest]:
        for key in keys:
            yield recommend_service_pb2.RecordInteractionRequest(key=key, item_id="1", kind=1)

    service = Process(tmp_path)
    acknowledged: list[str] = []
    with pytest.raises(grpc.RpcError):
        endless = clicks(f"k{number}" for number in itertools.count())
        for answer in service.recommend.RecordInteraction(endless, metadata=as_user("alice")):
            acknowledged.append(answer.key)
            if len(acknowledged) == 150:
                service.process.send_signal(signal.SIGKILL)
    service.end(signal.SIGKILL)
    again = Process(tmp_path)
    answers = list(again.recommend.RecordInteraction(clicks(acknowledged), metadata=as_user("alice")))
    assert len(answers) >= 150 and all(answer.repeated_key for answer in answers)
    assert again.end(signal.SIGTERM) == 0
