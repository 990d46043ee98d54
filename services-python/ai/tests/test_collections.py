"""Collections, filters on metadata, highlights, and many documents in one call."""

from collections.abc import Iterator

import grpc
import pytest
from conftest import Running, as_service, as_user
from google.protobuf import json_format, struct_pb2
from grpc_errors import fails, fields, invalid
from hybrid.ai.v1 import search_service_pb2 as pb

MODES = (pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_VECTOR, pb.SEARCH_MODE_TEXT)


def document(key: str, text: str = "A heron stands in the reeds.", **more: object) -> pb.Document:
    metadata = json_format.ParseDict(more.pop("metadata", {}), struct_pb2.Struct())
    return pb.Document(id=key, revision=1, text=text, metadata=metadata, **{"owner": "hal", **more})


def put(service: Running, key: str, **more: object) -> pb.IndexResponse:
    return service.search.Index(pb.IndexRequest(document=document(key, **more)), metadata=as_service())


def search(service: Running, query: str = "heron", **more: object) -> list[pb.SearchResult]:
    request = pb.SearchRequest(query=query, limit=100, **more)
    return list(service.search.Search(request, metadata=as_user("hal")).results)


@pytest.fixture(scope="module")
def birds(service: Running) -> Running:
    put(service, "b/1", collection="lake", metadata={"year": 2020, "kind": "note", "tags": ["wet", "grey"]})
    put(service, "b/2", collection="sea", metadata={"year": 2024.5, "kind": "note", "checked": True})
    put(service, "b/3", collection="sky", metadata={"year": 2030, "kind": "2020", "checked": False})
    put(service, "b/4")
    return service


def found(service: Running, *conditions: dict[str, object], mode: int = 0, **more: object) -> str:
    """The numbers of the documents found, in order of their keys."""
    filters = [pb.Filter(**condition) for condition in conditions]
    results = search(service, filters=filters, mode=mode, **more)
    return "".join(sorted({result.document_id[2:] for result in results if result.document_id.startswith("b/")}))


@pytest.mark.parametrize("mode", MODES)
def test_a_search_keeps_to_its_collections(birds: Running, mode: int) -> None:
    assert found(birds, mode=mode) == "1234"
    assert found(birds, mode=mode, collections=["lake", "sky"]) == "13"
    assert found(birds, mode=mode, collection="sea", collections=["lake"]) == "12"
    assert found(birds, mode=mode, collections=["none"]) == ""
    assert found(birds, mode=mode, collections=["none", "sea"]) == "2"


@pytest.mark.parametrize("mode", MODES)
def test_filters_compare_by_type(birds: Running, mode: int) -> None:
    between = pb.FilterRange(min=2020, max=2024.5)
    assert found(birds, {"key": "year", "range": between}, mode=mode) == "12"
    assert found(birds, {"key": "year", "range": pb.FilterRange(min=2024.6)}, mode=mode) == "3"
    assert found(birds, {"key": "year", "range": pb.FilterRange(max=2020)}, mode=mode) == "1"
    assert found(birds, {"key": "year", "number": 2020}, mode=mode) == "1"
    assert found(birds, {"key": "year", "text": "2020"}, mode=mode) == ""
    assert found(birds, {"key": "kind", "text": "2020"}, mode=mode) == "3"
    assert found(birds, {"key": "kind", "any_of": pb.FilterTexts(texts=["2020", "note"])}, mode=mode) == "123"
    assert found(birds, {"key": "tags", "text": "wet"}, mode=mode) == "1"
    assert found(birds, {"key": "checked", "boolean": False}, mode=mode) == "3"
    assert found(birds, {"key": "checked"}, mode=mode) == "23"
    assert found(birds, {"key": "checked", "negate": True}, mode=mode) == "14"
    assert found(birds, {"key": "kind", "text": "note"}, {"key": "checked", "boolean": True}, mode=mode) == "2"
    assert found(birds, {"key": "kind", "text": "note"}, {"key": "year", "number": 1}, mode=mode) == ""


def test_metadata_comes_back_and_is_replaced_with_its_document(service: Running) -> None:
    put(service, "m/1", metadata={"a": "x", "n": 1, "t": True, "l": ["p", "q"]}, collection="meta")
    (result,) = search(service, collection="meta")
    assert json_format.MessageToDict(result.metadata) == {"a": "x", "n": 1, "t": True, "l": ["p", "q"]}
    newer = document("m/1", metadata={"a": "y"}, collection="meta")
    newer.revision = 2
    service.search.Index(pb.IndexRequest(document=newer), metadata=as_service())
    assert search(service, collection="meta", filters=[pb.Filter(key="a", text="x")]) == []
    assert len(search(service, collection="meta", filters=[pb.Filter(key="a", text="y")])) == 1
    service.search.Delete(pb.DeleteRequest(document_id="m/1", revision=3), metadata=as_service())
    assert search(service, collection="meta", filters=[pb.Filter(key="none", text="", negate=True)]) == []


def test_highlights_are_where_the_words_are(service: Running) -> None:
    text = "Ünïcode 🙂 first. The herons were waiting; a heron waits, and “HERON” is a word."
    put(service, "h/1", text=text, collection="highlights")
    (result,) = search(service, "waiting heron or table", collection="highlights")
    marked = [result.passage[part.start : part.end] for part in result.highlights]
    assert marked == ["herons", "waiting", "heron", "waits", "HERON"]
    (result,) = search(service, "a grey bird", collection="highlights", mode=pb.SEARCH_MODE_VECTOR)
    assert [result.passage[part.start : part.end] for part in result.highlights] == ["a", "a"]


def test_many_documents_are_answered_in_order(service: Running) -> None:
    def send() -> Iterator[pb.IndexManyRequest]:
        for number in range(40):
            more = {"text": "A wader. " * (60 if number % 3 else 1), "collection": "many"}
            yield pb.IndexManyRequest(document=document(f"many/{number}", **more))
        yield pb.IndexManyRequest(document=document("many/0", collection="many"))

    answers = list(service.search.IndexMany(send(), metadata=as_service()))
    assert [answer.document_id for answer in answers] == [*(f"many/{number}" for number in range(40)), "many/0"]
    assert {answer.outcome for answer in answers[:-1]} == {pb.INDEX_OUTCOME_INDEXED}
    assert answers[-1].outcome == pb.INDEX_OUTCOME_STALE
    assert len({result.document_id for result in search(service, "wader", collection="many")}) == 40


def test_many_end_at_the_first_that_is_wrong_and_keep_what_came_before(service: Running) -> None:
    requests = [pb.IndexManyRequest(document=document(key, collection="torn")) for key in ("torn/1", "", "torn/3")]
    call = service.search.IndexMany(iter(requests), metadata=as_service())
    assert next(call).document_id == "torn/1"
    assert fields(fails(lambda: call, grpc.StatusCode.INVALID_ARGUMENT)) == ["document.id"]
    assert "torn/1" in {result.document_id for result in search(service, collection="torn")}


def test_metadata_s_limits_hold_from_both_sides(service: Running) -> None:
    def metadata(value: dict[str, object]) -> None:
        put(service, "limits", metadata=value)

    metadata({f"{number:064}": "v" * 256 for number in range(31)} | {"list": ["x"] * 32})
    most = {f"{number:064}": ["v" * 64] * 4 for number in range(32)}
    metadata(most)
    assert invalid(lambda: metadata(most | {f"{0:064}": ["v" * 64] * 4 + ["v"]})) == ["document.metadata"]
    assert invalid(lambda: metadata({"k": ["v" * 256] * 32, "l": ["v" * 256] * 8})) == ["document.metadata"]
    assert invalid(lambda: metadata({str(number): 1 for number in range(33)})) == ["document.metadata"]
    assert invalid(lambda: metadata({"k" * 65: 1})) == ["document.metadata"]
    assert invalid(lambda: metadata({"": 1})) == ["document.metadata"]
    assert invalid(lambda: metadata({"a": "v" * 257})) == ["document.metadata.a"]
    assert invalid(lambda: metadata({"a": ["x"] * 33})) == ["document.metadata.a"]
    assert invalid(lambda: metadata({"a": []})) == ["document.metadata.a"]
    assert invalid(lambda: metadata({"a": ["x", "v" * 257]})) == ["document.metadata.a[1]"]
    for wrong in (None, {"b": 1}, ["x", 1]):
        assert invalid(lambda wrong=wrong: metadata({"a": wrong})) == ["document.metadata.a"]


def test_filters_limits_hold_from_both_sides(service: Running) -> None:
    def wrong(**condition: object) -> list[str]:
        return invalid(lambda: search(service, filters=[pb.Filter(**condition)]))

    largest = pb.Filter(key="k" * 64, any_of=pb.FilterTexts(texts=["t" * 256] * 64))
    search(service, filters=[pb.Filter(key="k", text="t" * 256)])
    search(service, filters=[largest] * 16, collections=["c" * 256] * 16)
    assert invalid(lambda: search(service, filters=[largest] * 17)) == ["filters"]
    assert invalid(lambda: search(service, collections=["c"] * 17)) == ["collections"]
    assert invalid(lambda: search(service, collections=["c" * 257, ""])) == ["collections[0]", "collections[1]"]
    assert invalid(lambda: search(service, collection="c" * 257)) == ["collection"]
    assert wrong(key="") == wrong(key="k" * 65) == ["filters[0].key"]
    assert wrong(key="k", text="t" * 257) == ["filters[0].text"]
    assert wrong(key="k", number=float("nan")) == ["filters[0].number"]
    assert wrong(key="k", any_of=pb.FilterTexts()) == ["filters[0].any_of.texts"]
    assert wrong(key="k", any_of=pb.FilterTexts(texts=["t"] * 65)) == ["filters[0].any_of.texts"]
    texts = ["t", "t" * 257]
    assert wrong(key="k", any_of=pb.FilterTexts(texts=texts)) == ["filters[0].any_of.texts[1]"]
    assert wrong(key="k", range=pb.FilterRange()) == ["filters[0].range"]
    assert wrong(key="k", range=pb.FilterRange(min=float("nan"))) == ["filters[0].range"]
