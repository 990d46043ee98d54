"""Answer: sentences word for word from what the caller may read, each with its citation."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Metadata, Running, as_anonymous, as_service, as_user, wait_until
from grpc_errors import invalid
from hybrid.ai.v1 import assistant_service_pb2 as pb
from hybrid.ai.v1 import search_service_pb2 as search_pb

QUESTION = "Where is the key of the lighthouse kept?"


def ask(service: Running, caller: Metadata, question: str = QUESTION, **fields: object) -> list[pb.AnswerResponse]:
    return list(service.assistant.Answer(pb.AnswerRequest(question=question, **fields), metadata=caller))


@pytest.fixture(scope="module")
def filled(service: Running) -> Running:
    texts = {
        "alice": "The harbour opens at six. The key of the lighthouse is kept under the red stone. Boats leave at 12.",
        "bob": "The key of the lighthouse is kept in the blue box. The lamp is lit at dusk.",
    }
    for owner, text in texts.items():
        document = search_pb.Document(id=f"a/{owner}", revision=1, title="Harbour", text=text, owner=owner, uri="/a")
        service.search.Index(search_pb.IndexRequest(document=document), metadata=as_service())
    return service


def test_an_answer_cites_first_and_copies_word_for_word(filled: Running) -> None:
    events = ask(filled, as_user("alice"))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == sorted(kinds, key=["citation", "delta", "completed"].index)
    citations = {event.citation.number: event.citation for event in events if event.WhichOneof("event") == "citation"}
    assert list(citations) == list(range(1, len(citations) + 1))
    deltas = [event.delta for event in events if event.WhichOneof("event") == "delta"]
    assert "The key of the lighthouse is kept under the red stone." in deltas[0].text
    for delta in deltas:
        (number,) = delta.citations
        assert delta.text.strip() in citations[number].passage
    assert (events[-1].completed.model, events[-1].completed.found) == ("extractive", True)


def test_each_caller_is_answered_from_what_they_may_read(filled: Running) -> None:
    answers = {name: "".join(event.delta.text for event in ask(filled, as_user(name))) for name in ("alice", "bob")}
    assert "red stone" in answers["alice"] and "blue box" not in answers["alice"]
    assert "blue box" in answers["bob"] and "red stone" not in answers["bob"]
    for nobody in (as_anonymous(), as_service(), as_user("carol")):
        events = ask(filled, nobody)
        assert [event.WhichOneof("event") for event in events] == ["delta", "completed"]
        assert not events[-1].completed.found


def test_what_the_documents_do_not_hold_is_said_to_be_missing(filled: Running) -> None:
    events = ask(filled, as_user("alice"), "Which enzyme breaks down lactose in humans?")
    assert events[-1].completed.found is False and "citation" not in {event.WhichOneof("event") for event in events}


def test_an_answer_keeps_to_its_collections_and_cites_three_passages_unless_told(filled: Running) -> None:
    for number in range(12):
        text = f"The key of the lighthouse is kept in drawer {number}."
        given = {"collection": f"c{number % 3}", "text": text, "owner": "dora"}
        document = search_pb.Document(id=f"dora/{number}", revision=1, **given)
        filled.search.Index(search_pb.IndexRequest(document=document), metadata=as_service())

    def cited(**fields: object) -> list[int]:
        """The collections of the cited documents."""
        events = ask(filled, as_user("dora"), **fields)
        keys = [event.citation.document_id for event in events if event.WhichOneof("event") == "citation"]
        return [int(key.removeprefix("dora/")) % 3 for key in keys]

    assert [len(cited()), len(cited(max_citations=1)), len(cited(max_citations=10))] == [3, 1, 10]
    assert cited(collection="c1", max_citations=10) == [1] * 4
    assert sorted(cited(collection="c1", collections=["c2", "none"], max_citations=10)) == [1] * 4 + [2] * 4
    assert cited(collections=["none"]) == []


def test_the_limits_hold_from_both_sides(filled: Running) -> None:
    alice = as_user("alice")
    ask(filled, alice, "q" * 4096, max_citations=10)
    assert invalid(lambda: ask(filled, alice, "")) == ["question"]
    assert invalid(lambda: ask(filled, alice, "q" * 4097)) == ["question"]
    assert invalid(lambda: ask(filled, alice, max_citations=11)) == ["max_citations"]
    assert invalid(lambda: ask(filled, alice, max_citations=-1)) == ["max_citations"]
    ask(filled, alice, collection="c" * 256, collections=["c" * 256] * 16)
    assert invalid(lambda: ask(filled, alice, collection="c" * 257)) == ["collection"]
    assert invalid(lambda: ask(filled, alice, collections=["c"] * 17)) == ["collections"]
    assert invalid(lambda: ask(filled, alice, collections=["c", "", "c" * 257])) == ["collections[1]", "collections[2]"]


def test_the_project_s_documents_are_there_for_everybody_and_follow_their_files(
    start: Callable[..., Running], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    documents, kept = tmp_path / "project", str(tmp_path_factory.mktemp("kept"))
    (documents / "docs").mkdir(parents=True)
    (documents / "README.md").write_text("# The Project\n\nThe mascot of the project is a heron.\n")
    (documents / "docs" / "old.md").write_text("# Old\n\nThe mascot used to be a turtle.\n")

    def found() -> dict[str, int]:
        service = start(AI_DATA_DIR=kept, AI_DOCUMENTS_DIR=str(documents))
        wait_until(lambda: ready(service))
        request = search_pb.SearchRequest(query="mascot", collection="project")
        results = service.search.Search(request, metadata=as_anonymous()).results
        return {result.document_id: result.revision for result in results}

    assert found() == {"project/README.md": 1, "project/docs/old.md": 1}
    (documents / "README.md").write_text("# The Project\n\nThe mascot of the project is a crane.\n")
    (documents / "docs" / "old.md").unlink()
    assert found() == {"project/README.md": 2}
    assert found() == {"project/README.md": 2}


def ready(service: Running) -> bool:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    health = health_pb2_grpc.HealthStub(service.channel)
    return health.Check(health_pb2.HealthCheckRequest(service="hybrid.ai.v1.SearchService")).status == 1
