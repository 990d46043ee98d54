"""Revisions and tombstones: an older revision never overwrites a newer one or a deletion, in any order of calls."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Running, as_service, as_user
from hybrid.ai.v1 import search_service_pb2 as pb

INDEXED, STALE, DELETED = pb.INDEX_OUTCOME_INDEXED, pb.INDEX_OUTCOME_STALE, pb.INDEX_OUTCOME_DELETED


def put(service: Running, key: str, revision: int, owner: str = "alice") -> pb.IndexResponse:
    text = f"Zebra number {revision}."
    document = pb.Document(id=key, revision=revision, text=text, owner=owner)
    return service.search.Index(pb.IndexRequest(document=document), metadata=as_service())


def delete(service: Running, key: str, revision: int) -> bool:
    request = pb.DeleteRequest(document_id=key, revision=revision)
    return service.search.Delete(request, metadata=as_service()).deleted


def visible(service: Running, owner: str) -> dict[str, int]:
    """What both halves of retrieval find, which must be the same: document → revision."""
    found = []
    for mode in (pb.SEARCH_MODE_TEXT, pb.SEARCH_MODE_VECTOR):
        request = pb.SearchRequest(query="zebra", limit=100, mode=mode)
        results = service.search.Search(request, metadata=as_user(owner)).results
        assert all(result.passage == f"Zebra number {result.revision}." for result in results)
        found.append({result.document_id: result.revision for result in results})
        assert len(found[-1]) == len(results)
    assert found[0] == found[1]
    return found[0]


def test_the_outcomes_of_a_document_s_life(service: Running) -> None:
    def outcome(revision: int) -> tuple[int, int]:
        response = put(service, "life", revision, "life")
        return response.outcome, response.revision

    assert outcome(2) == (INDEXED, 2)
    assert outcome(2) == (STALE, 2)
    assert outcome(1) == (STALE, 2)
    assert outcome(5) == (INDEXED, 5)
    assert delete(service, "life", 4) is False
    assert visible(service, "life") == {"life": 5}
    assert delete(service, "life", 6) is True
    assert delete(service, "life", 6) is True
    assert delete(service, "life", 3) is True
    assert outcome(5) == (DELETED, 6)
    assert outcome(6) == (DELETED, 6)
    assert visible(service, "life") == {}
    assert outcome(7) == (INDEXED, 7)
    assert visible(service, "life") == {"life": 7}


def test_a_deletion_that_comes_first_is_remembered(service: Running) -> None:
    assert delete(service, "early", 3) is True
    assert put(service, "early", 3, "early").outcome == DELETED
    assert put(service, "early", 4, "early").outcome == INDEXED


def test_a_change_of_readers_takes_effect_with_the_answer(service: Running) -> None:
    for revision, readers in enumerate((["bob"], [], ["*"], ["bob"]), 1):
        document = pb.Document(id="acl", revision=revision, text="Zebra crossing.", owner="acl", readers=readers)
        service.search.Index(pb.IndexRequest(document=document), metadata=as_service())
        for mode in (pb.SEARCH_MODE_TEXT, pb.SEARCH_MODE_VECTOR):
            request = pb.SearchRequest(query="zebra", mode=mode)
            found = service.search.Search(request, metadata=as_user("bob")).results
            assert bool(found) == bool(readers), (revision, mode)


@pytest.mark.parametrize("seed", range(4))
def test_any_interleaving_ends_in_the_newest_state(service: Running, seed: int) -> None:
    chance, owner = random.Random(seed), f"owner-{seed}"
    keys = [f"p/{seed}/{number}" for number in range(6)]
    steps = [(chance.choice(keys), chance.randint(1, 12), chance.random() < 0.35) for _ in range(120)]

    def run(step: tuple[str, int, bool]) -> None:
        key, revision, deletes = step
        if deletes:
            delete(service, key, revision)
        else:
            put(service, key, revision, owner)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, steps))
    found = visible(service, owner)
    for key in keys:
        puts = {revision for step_key, revision, deletes in steps if step_key == key and not deletes}
        deletions = {revision for step_key, revision, deletes in steps if step_key == key and deletes}
        newest, buried = max(puts, default=0), max(deletions, default=0)
        if newest > buried:
            assert found[key] == newest
        elif newest < buried:
            assert key not in found
        else:  # the same revision indexed and deleted: whichever came last among allowed orders; never an older one
            assert found.get(key, newest) == newest


def test_the_same_state_is_there_after_a_restart(
    start: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(tmp_path_factory.mktemp("kept"))
    first = start(AI_DATA_DIR=folder)
    for number in range(20):
        put(first, f"s/{number}", 1 + number % 3, "steve")
    for number in range(0, 20, 4):
        delete(first, f"s/{number}", 9)
    before = visible(first, "steve")
    again = start(AI_DATA_DIR=folder)
    assert len(before) == 15
    assert visible(again, "steve") == before
    assert put(again, "s/0", 9, "steve").outcome == DELETED
