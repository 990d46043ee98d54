"""Search: who finds what, in every mode, and the limits from both sides."""

import pytest
from conftest import Metadata, Running, as_anonymous, as_service, as_user
from google.protobuf import struct_pb2
from grpc_errors import invalid
from hybrid.ai.v1 import search_service_pb2 as pb

MODES = (pb.SEARCH_MODE_UNSPECIFIED, pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_VECTOR, pb.SEARCH_MODE_TEXT)


def index(service: Running, key: str, text: str = "", revision: int = 1, **fields: object) -> pb.IndexResponse:
    document = pb.Document(id=key, revision=revision, text=text, **fields)
    return service.search.Index(pb.IndexRequest(document=document), metadata=as_service())


def find(service: Running, query: str, caller: Metadata, **fields: object) -> list[str]:
    response = service.search.Search(pb.SearchRequest(query=query, **fields), metadata=caller)
    return [result.document_id for result in response.results]


@pytest.fixture(scope="module")
def filled(service: Running) -> Running:
    """Documents about one thing, with different readers."""
    texts = "The harbour master keeps the lighthouse key under the {} stone."
    index(service, "d/alice", texts.format("red"), owner="alice", collection="notes")
    index(service, "d/bob", texts.format("blue"), owner="bob", collection="notes")
    index(service, "d/shared", texts.format("green"), owner="bob", readers=["alice"], collection="notes")
    index(service, "d/public", texts.format("grey"), owner="carol", readers=["*"], collection="guide")
    for number in range(40):  # better matches that nobody else may read
        text = "Lighthouse key, lighthouse key: where is the lighthouse key?"
        index(service, f"d/hidden-{number}", text, owner="mallory", collection="notes")
    return service


@pytest.mark.parametrize("mode", MODES)
def test_each_caller_finds_what_they_may_read(filled: Running, mode: int) -> None:
    def found(caller: Metadata, **fields: object) -> set[str]:
        return set(find(filled, "Where is the lighthouse key?", caller, mode=mode, limit=10, **fields))

    assert found(as_user("alice")) == {"d/alice", "d/shared", "d/public"}
    assert found(as_user("bob")) == {"d/bob", "d/shared", "d/public"}
    assert found(as_user("dave")) == {"d/public"}
    assert found(as_anonymous()) == {"d/public"}
    assert found(as_user("alice"), visible_to=["bob"]) == {"d/shared", "d/public"}
    assert found(as_user("alice"), visible_to=["alice", "dave"]) == {"d/public"}
    assert found(as_anonymous(), visible_to=["alice"]) == {"d/public"}
    assert found(as_service(), visible_to=["alice"]) == {"d/alice", "d/shared", "d/public"}
    assert found(as_service(), visible_to=["alice", "bob"]) == {"d/shared", "d/public"}
    assert found(as_service(), visible_to=["*"]) == {"d/public"}
    assert found(as_user("alice"), collection="guide") == {"d/public"}
    assert found(as_user("alice"), exclude_document_id="d/shared") == {"d/alice", "d/public"}


@pytest.mark.parametrize("mode", MODES)
def test_what_may_not_be_read_takes_no_result_s_place(filled: Running, mode: int) -> None:
    query = "Where is the lighthouse key?"
    assert len(find(filled, query, as_user("alice"), mode=mode, limit=3)) == 3
    assert len(find(filled, query, as_user("mallory"), mode=mode, limit=41)) == 41


def test_ten_results_are_given_where_no_limit_is_named(filled: Running) -> None:
    assert len(find(filled, "Where is the lighthouse key?", as_user("mallory"))) == 10


def test_a_hundred_of_the_largest_results_fit_a_message(service: Running) -> None:
    face = "\U0001f642"  # 4 bytes
    metadata = struct_pb2.Struct()
    for number in range(32):
        metadata.update({face * 62 + f"{number:02}": [face * 256, *[""] * 31]})
    names = {"collection": face * 256, "title": face * 1024, "uri": face * 2048}
    index(service, face * 256, face * 409_600, owner="zoe", metadata=metadata, **names)
    request = pb.SearchRequest(query="face", limit=100, mode=pb.SEARCH_MODE_VECTOR)
    response = service.search.Search(request, metadata=as_user("zoe"))
    assert len(response.results) == 100 and {len(result.passage) for result in response.results} == {4096}
    assert 7_000_000 < response.ByteSize() <= 8 * 1024 * 1024 - 100 * 200 * 8  # beside them: a highlight for each token


def test_a_service_without_a_user_must_say_for_whom(filled: Running) -> None:
    assert invalid(lambda: find(filled, "key", as_service())) == ["visible_to"]


def test_a_subject_named_like_a_wildcard_reads_nothing_more(filled: Running) -> None:
    assert set(find(filled, "lighthouse key", as_user("%"), limit=100)) == {"d/public"}


def test_words_find_what_meaning_does_not_and_the_reverse(service: Running) -> None:
    index(service, "m/code", "Part number ZX-81-99 is out of stock.", owner="erin")
    index(service, "m/cat", "The kitten slept on the warm windowsill.", owner="erin")
    erin = as_user("erin")
    assert find(service, "ZX-81-99", erin, mode=pb.SEARCH_MODE_TEXT) == ["m/code"]
    assert find(service, "a sleeping feline", erin, mode=pb.SEARCH_MODE_TEXT) == []
    assert find(service, "a sleeping feline", erin, mode=pb.SEARCH_MODE_VECTOR)[0] == "m/cat"
    assert find(service, "a sleeping feline", erin)[0] == "m/cat"
    assert find(service, "ZX-81-99", erin)[0] == "m/code"


def test_operators_in_a_query_are_words(service: Running) -> None:
    for query in ('" OR', "NEAR(a b)", "a AND NOT", "*", "title:x", "';--", "()", "\x00"):
        find(service, query, as_user("alice"), mode=pb.SEARCH_MODE_TEXT)


def test_a_result_is_where_it_says(service: Running) -> None:
    text = "# Bread\n\nFlour and water.\n\n# Soup\n\n" + "Carrots simmer for an hour. " * 80 + "Ünïcode 🙂 leeks.\n"
    index(service, "r/1", text, title="Recipes", uri="/r/1", owner="frank", collection="food", revision=7)
    request = pb.SearchRequest(query="leeks and carrots", collection="food")
    results = service.search.Search(request, metadata=as_user("frank")).results
    assert len(results) > 1
    for result in results:
        assert text[result.offset : result.offset + len(result.passage)] == result.passage
        assert (result.revision, result.title, result.uri, result.collection) == (7, "Recipes", "/r/1", "food")
    assert [result.score for result in results] == sorted((result.score for result in results), reverse=True)


def test_a_title_alone_can_be_found(service: Running) -> None:
    assert index(service, "t/1", title="Groceries for Sunday", owner="gina").passages == 1
    assert find(service, "groceries", as_user("gina"), mode=pb.SEARCH_MODE_TEXT) == ["t/1"]
    assert find(service, "shopping list", as_user("gina"), mode=pb.SEARCH_MODE_VECTOR)[0] == "t/1"


def test_index_s_limits_hold_from_both_sides(service: Running) -> None:
    largest = {"title": "t" * 1024, "collection": "c" * 256, "uri": "u" * 2048, "owner": "o" * 256}
    index(service, "k" * 256, "word", readers=["r" * 256] + [f"r{n}" for n in range(999)], **largest)
    assert invalid(lambda: index(service, "")) == ["document.id"]
    assert invalid(lambda: index(service, "k" * 257)) == ["document.id"]
    assert invalid(lambda: index(service, "l/1", revision=0)) == ["document.revision"]
    assert invalid(lambda: index(service, "l/1", title="t" * 1025)) == ["document.title"]
    assert invalid(lambda: index(service, "l/1", "t" * 1_048_577)) == ["document.text"]
    assert invalid(lambda: index(service, "l/1", readers=["a", ""])) == ["document.readers[1]"]
    assert invalid(lambda: index(service, "l/1", readers=["a"] * 1001)) == ["document.readers"]
    assert invalid(lambda: index(service, "l/1", readers=["a", "r" * 257])) == ["document.readers[1]"]
    for name, most in (("collection", 256), ("uri", 2048), ("owner", 256)):
        given = {name: "x" * (most + 1)}
        assert invalid(lambda given=given: index(service, "l/1", **given)) == [f"document.{name}"]
    assert index(service, "l/2", " " * 1_048_576).passages == 0


def test_search_s_limits_hold_from_both_sides(service: Running) -> None:
    alice = as_user()
    find(service, "q" * 4096, alice, limit=100, exclude_document_id="k" * 256, visible_to=["s" * 256] * 100)
    find(service, "q", alice, limit=1)
    assert invalid(lambda: find(service, "", alice)) == ["query"]
    assert invalid(lambda: find(service, "q" * 4097, alice)) == ["query"]
    assert invalid(lambda: find(service, "q", alice, limit=101)) == ["limit"]
    assert invalid(lambda: find(service, "q", alice, limit=-1)) == ["limit"]
    assert invalid(lambda: find(service, "q", alice, mode=9)) == ["mode"]
    assert invalid(lambda: find(service, "q", alice, visible_to=["a"] * 101)) == ["visible_to"]
    assert invalid(lambda: find(service, "q", alice, visible_to=["a", ""])) == ["visible_to[1]"]
    assert invalid(lambda: find(service, "q", alice, visible_to=["s" * 257])) == ["visible_to[0]"]
    assert invalid(lambda: find(service, "q", alice, exclude_document_id="k" * 257)) == ["exclude_document_id"]


def test_delete_s_limits_hold(service: Running) -> None:
    def delete(key: str, revision: int) -> None:
        service.search.Delete(pb.DeleteRequest(document_id=key, revision=revision), metadata=as_service())

    delete("k" * 256, 1)
    assert invalid(lambda: delete("", 1)) == ["document_id"]
    assert invalid(lambda: delete("k" * 257, 0)) == ["document_id", "revision"]
