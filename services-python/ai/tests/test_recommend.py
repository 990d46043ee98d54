"""RecommendService: the catalogue, interactions that are durable and count at once, and what follows from them."""

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterable, Iterator

import grpc
import pytest
from conftest import Loop, Running, as_service, as_user, sign, wait_until
from google.rpc import error_details_pb2
from grpc_errors import fails, invalid
from grpc_status import rpc_status
from hybrid.ai.v1 import recommend_service_pb2 as pb

CLICK, LIKE, DISMISS = pb.INTERACTION_KIND_CLICK, pb.INTERACTION_KIND_LIKE, pb.INTERACTION_KIND_DISMISS
TOY_STORY, TOY_STORY_2, ALIEN, ALIENS, TERMINATOR = "1", "3114", "1214", "1200", "1240"


def record(service: Running, person: str, *done: tuple[str, str, int]) -> list[pb.RecordInteractionResponse]:
    requests = [pb.RecordInteractionRequest(key=key, item_id=item, kind=kind) for key, item, kind in done]
    return list(service.recommend.RecordInteraction(iter(requests), metadata=as_user(person)))


def recommend(service: Running, person: str, limit: int = 10) -> pb.RecommendResponse:
    return service.recommend.Recommend(pb.RecommendRequest(limit=limit), metadata=as_user(person))


def ids(found: Iterable[pb.Recommendation]) -> list[str]:
    return [recommendation.item.id for recommendation in found]


def test_the_catalogue_is_listed_in_pages_most_liked_first(service: Running) -> None:
    pages: list[pb.CatalogueItem] = []
    token = ""
    for _ in range(3):
        request = pb.ListItemsRequest(genre="Western", page_size=50, page_token=token)
        page = service.recommend.ListItems(request, metadata=as_user())
        assert len(page.items) == 50 and page.total_size == 168
        pages += page.items
        token = page.next_page_token
    rest = service.recommend.ListItems(
        pb.ListItemsRequest(genre="Western", page_size=50, page_token=token), metadata=as_user()
    )
    pages += rest.items
    assert rest.next_page_token == ""
    assert len({item.id for item in pages}) == len(pages) == 168
    assert [item.likes for item in pages] == sorted((item.likes for item in pages), reverse=True)
    assert all("Western" in item.genres for item in pages)


def test_a_query_finds_every_word_in_any_case(service: Running) -> None:
    page = service.recommend.ListItems(pb.ListItemsRequest(query="STORY toy"), metadata=as_user())
    assert [item.title for item in page.items[:3]] == ["Toy Story", "Toy Story 2", "Toy Story 3"]
    none = service.recommend.ListItems(pb.ListItemsRequest(query="no film is called so"), metadata=as_user())
    assert (len(none.items), none.total_size, none.next_page_token) == (0, 0, "")


def test_an_item_is_given_and_an_unknown_one_is_not_found(service: Running) -> None:
    item = service.recommend.GetItem(pb.GetItemRequest(item_id=ALIEN), metadata=as_user()).item
    assert (item.title, item.year, list(item.genres)) == ("Alien", 1979, ["Horror", "Sci-Fi"])
    for call in (
        lambda: service.recommend.GetItem(pb.GetItemRequest(item_id="no"), metadata=as_user()),
        lambda: service.recommend.ListSimilarItems(pb.ListSimilarItemsRequest(item_id="no"), metadata=as_user()),
    ):
        error = fails(call, grpc.StatusCode.NOT_FOUND)
        status = rpc_status.from_call(error)
        info = error_details_pb2.ErrorInfo()
        assert status is not None and status.details[0].Unpack(info)
        assert (info.reason, error.details()) == ("ITEM_NOT_FOUND", "item_id: 'no' does not exist")


def test_similar_items_are_liked_together(service: Running) -> None:
    request = pb.ListSimilarItemsRequest(item_id=ALIEN, limit=5)
    found = service.recommend.ListSimilarItems(request, metadata=as_user()).recommendations
    assert ALIENS in ids(found) and ALIEN not in ids(found) and len(found) == 5
    assert found[0].reason == pb.RECOMMENDATION_REASON_LIKED_TOGETHER
    assert all(entry.because_item_id == ALIEN for entry in found)
    scores = [entry.score for entry in found]
    assert scores == sorted(scores, reverse=True)


def test_what_nobody_likes_yet_is_similar_by_content(service: Running) -> None:
    cold = next(item for item in listed(service, "Western") if item.likes == 0)
    request = pb.ListSimilarItemsRequest(item_id=cold.id)
    found = service.recommend.ListSimilarItems(request, metadata=as_user()).recommendations
    assert {entry.reason for entry in found} == {pb.RECOMMENDATION_REASON_SIMILAR_CONTENT}
    assert sum("Western" in entry.item.genres for entry in found) >= 8, cold


def listed(service: Running, genre: str) -> Iterator[pb.CatalogueItem]:
    token = "0"
    while token:
        request = pb.ListItemsRequest(genre=genre, page_size=100, page_token=token)
        page = service.recommend.ListItems(request, metadata=as_user())
        yield from page.items
        token = page.next_page_token


def test_a_new_person_gets_what_most_people_like(service: Running) -> None:
    answer = recommend(service, "newcomer")
    assert answer.based_on == 0
    assert {entry.reason for entry in answer.recommendations} == {pb.RECOMMENDATION_REASON_POPULAR}
    assert min(entry.item.likes for entry in answer.recommendations) > 100


def test_an_interaction_changes_the_next_answer_at_once(service: Running) -> None:
    before = recommend(service, "clicker")
    assert ALIENS not in ids(before.recommendations)
    (answer,) = record(service, "clicker", ("a", ALIEN, CLICK))
    assert (answer.key, answer.repeated_key) == ("a", False)
    after = recommend(service, "clicker")
    assert after.based_on == 1
    assert ALIENS in ids(after.recommendations) and ALIEN not in ids(after.recommendations)
    assert after.recommendations[0].because_item_id == ALIEN
    assert ids(recommend(service, "somebody else").recommendations) == ids(before.recommendations)
    record(service, "clicker", ("b", TOY_STORY, LIKE))
    assert TOY_STORY_2 in ids(recommend(service, "clicker").recommendations)


def test_what_was_dismissed_is_left_out_and_counts_no_more(service: Running) -> None:
    record(service, "dismisser", ("a", ALIEN, LIKE), ("b", ALIENS, DISMISS))
    answer = recommend(service, "dismisser", 100)
    assert ALIENS not in ids(answer.recommendations) and answer.based_on == 1
    record(service, "dismisser", ("c", ALIEN, DISMISS))
    answer = recommend(service, "dismisser", 100)
    assert answer.based_on == 0 and not {ALIEN, ALIENS} & set(ids(answer.recommendations))


def test_what_people_do_changes_what_is_similar_for_others(service: Running, start: Callable[..., Running]) -> None:
    cold, other = [item.id for item in listed(service, "Western") if item.likes == 0][:2]
    beside = start(AI_DATA_DIR=str(service.service.config.data_dir))  # shares the journal, as AI_PROCESSES has it

    def similar(asked: Running) -> list[str]:
        request = pb.ListSimilarItemsRequest(item_id=cold, limit=1)
        return ids(asked.recommend.ListSimilarItems(request, metadata=as_user()).recommendations)

    assert similar(service) != [other] and similar(beside) != [other]
    for person, taken_by in (("w1", service), ("w2", service), ("w3", beside)):
        record(taken_by, person, ("a", cold, LIKE), ("b", other, LIKE))
    assert similar(service) == [other] and similar(beside) == [other]


def test_a_key_counts_once_for_each_person(service: Running) -> None:
    assert [a.repeated_key for a in record(service, "twice", ("k", ALIEN, LIKE), ("k", TOY_STORY, LIKE))] == [
        False,
        True,
    ]
    assert record(service, "twice", ("k", ALIEN, LIKE))[0].repeated_key
    assert not record(service, "another", ("k", ALIEN, LIKE))[0].repeated_key
    assert recommend(service, "twice").based_on == 1


def test_the_latest_thousand_interactions_are_left_out(service: Running) -> None:
    """An item of an older one may be recommended again, and is, where all the others speak for it."""

    def click(first: int, count: int) -> None:
        record(service, "busy", *((f"k{number}", ALIENS, CLICK) for number in range(first, first + count)))

    record(service, "busy", ("a", ALIEN, CLICK))
    click(0, 999)
    assert ALIEN not in ids(recommend(service, "busy", 100).recommendations)
    click(999, 1)
    assert ALIEN in ids(recommend(service, "busy").recommendations)
    assert ALIENS not in ids(recommend(service, "busy", 100).recommendations)


def test_a_long_stream_is_answered_in_order(service: Running) -> None:
    films = [item.id for item in listed(service, "Comedy")][:300]
    answers = record(service, "many", *((f"k{number}", film, CLICK) for number, film in enumerate(films)))
    assert [answer.key for answer in answers] == [f"k{number}" for number in range(300)]
    assert recommend(service, "many").based_on == 10
    assert not set(films) & set(ids(recommend(service, "many", 100).recommendations))


def test_a_wrong_interaction_ends_the_stream_after_the_answers_before_it(service: Running) -> None:
    wrong = {
        "key": pb.RecordInteractionRequest(item_id=ALIEN, kind=LIKE),
        "item_id": pb.RecordInteractionRequest(key="x", item_id="no", kind=LIKE),
        "kind": pb.RecordInteractionRequest(key="x", item_id=ALIEN),
    }
    for field, request in wrong.items():
        first = pb.RecordInteractionRequest(key=field, item_id=ALIEN, kind=LIKE)
        answers: list[str] = []

        def read(first=first, request=request, answers=answers) -> None:  # type: ignore[no-untyped-def]
            call = service.recommend.RecordInteraction(iter([first, request]), metadata=as_user("wrong"))
            for answer in call:
                answers.append(answer.key)

        assert invalid(read) == [field]
        assert answers == [field]
    assert recommend(service, "wrong").based_on == 1


def test_the_limits_hold_from_both_sides(service: Running) -> None:
    assert len(recommend(service, "limits", 100).recommendations) == 100
    for limit in (-1, 101):
        assert invalid(lambda limit=limit: recommend(service, "limits", limit)) == ["limit"]
    key = "k" * 64
    assert record(service, "limits", (key, ALIEN, CLICK))[0].key == key
    assert invalid(lambda: record(service, "limits", (key + "k", ALIEN, CLICK))) == ["key"]

    def page(**fields: object) -> pb.ListItemsResponse:
        return service.recommend.ListItems(pb.ListItemsRequest(**fields), metadata=as_user())  # type: ignore[arg-type]

    assert len(page(page_size=1_000).items) == 1_000
    assert len(page().items) == 20
    assert page(query="x" * 256).total_size == 0
    wrong = [{"page_size": 1_001}, {"page_size": -1}, {"query": "x" * 257}, {"genre": "Waltz"}, {"page_token": "x"}]
    for fields in wrong:
        assert invalid(lambda fields=fields: page(**fields)) == list(fields)
    assert len(recommend(service, "limits", 0).recommendations) == 10


def test_the_limits_of_an_item_hold_from_both_sides(service: Running) -> None:
    def get(item: str) -> pb.GetItemResponse:
        return service.recommend.GetItem(pb.GetItemRequest(item_id=item), metadata=as_user())

    def similar(item: str, limit: int = 0) -> pb.ListSimilarItemsResponse:
        request = pb.ListSimilarItemsRequest(item_id=item, limit=limit)
        return service.recommend.ListSimilarItems(request, metadata=as_user())

    for call in (get, similar):
        fails(lambda call=call: call("i" * 64), grpc.StatusCode.NOT_FOUND)
        for item in ("", "i" * 65):
            assert invalid(lambda call=call, item=item: call(item)) == ["item_id"]
    assert len(similar(ALIEN, 100).recommendations) == 100
    assert len(similar(ALIEN, 1).recommendations) == 1
    assert len(similar(ALIEN).recommendations) == 10
    for limit in (-1, 101):
        assert invalid(lambda limit=limit: similar(ALIEN, limit)) == ["limit"]
    assert invalid(lambda: similar("", 101)) == ["item_id", "limit"]


def test_a_service_acting_for_a_person_records_for_that_person(service: Running) -> None:
    token = sign("acted-for", act="service:realtime")
    requests = iter([pb.RecordInteractionRequest(key="a", item_id=ALIEN, kind=LIKE)])
    list(service.recommend.RecordInteraction(requests, metadata=(("x-hybrid-identity", token),)))
    assert recommend(service, "acted-for").based_on == 1
    own = service.recommend.Recommend(pb.RecommendRequest(), metadata=as_service())
    assert own.based_on == 0


def test_the_same_is_recommended_after_a_restart(
    start: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = str(tmp_path_factory.mktemp("kept"))
    first = start(AI_DATA_DIR=folder)
    for number in range(5):
        record(first, f"r{number}", ("a", ALIEN, LIKE), ("b", TERMINATOR, CLICK), ("c", TOY_STORY, DISMISS))
    before = recommend(first, "r0")
    again = start(AI_DATA_DIR=folder)
    assert ids(recommend(again, "r0").recommendations) == ids(before.recommendations)
    assert [a.repeated_key for a in record(again, "r0", ("a", ALIEN, LIKE), ("d", ALIEN, LIKE))] == [True, False]


def test_nothing_more_is_recorded_of_a_caller_that_went_away(service: Running, loop: Loop) -> None:
    """The stream has no end: what reads it and what waits for the disk is gone, and the service goes on."""

    def endless() -> Iterator[pb.RecordInteractionRequest]:
        for number in itertools.count():
            yield pb.RecordInteractionRequest(key=f"k{number}", item_id=ALIEN, kind=CLICK)

    def tasks() -> set[str]:
        names = {getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks(loop.loop)}
        return {name for name in names if name.startswith("RecommendService.")}

    def recorded() -> int:
        folder = service.service.config.data_dir
        with contextlib.closing(sqlite3.connect(folder / "interactions.sqlite3")) as database:
            (count,) = database.execute("SELECT count(*) FROM interactions WHERE person = 'leaver'").fetchone()
        return int(count)

    call = service.recommend.RecordInteraction(endless(), metadata=as_user("leaver"))
    assert next(call).key == "k0"
    assert "RecommendService._read" in tasks()
    call.cancel()
    wait_until(lambda: tasks() == set())
    assert recommend(service, "leaver").based_on == 1  # comes after what the journal had begun
    count = recorded()
    record(service, "stayer", *((f"k{number}", ALIEN, CLICK) for number in range(100)))
    assert recorded() == count
