"""Classify, Moderate, Summarize and EmbedStream: what they answer, and every limit from both sides."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from conftest import Running, as_user, wait_until
from grpc_errors import invalid
from hybrid.ai.v1 import text_service_pb2 as pb

ARTICLE = (
    "The kettle is the oldest tool of the tea maker. Water boils at a hundred degrees at sea level. On a mountain it"
    " boils earlier, and tea tastes weaker there. Our office cat is called Miso. Green tea wants cooler water than"
    " black tea. A thermometer helps, but most people just wait a minute after the water has boiled."
)


def classify(service: Running, texts: list[str], *labels: str | pb.Label) -> list[list[pb.LabelScore]]:
    given = [label if isinstance(label, pb.Label) else pb.Label(name=label) for label in labels]
    response = service.text.Classify(pb.ClassifyRequest(texts=texts, labels=given), metadata=as_user())
    return [list(classification.labels) for classification in response.classifications]


def moderate(service: Running, *texts: str) -> list[pb.Moderation]:
    return list(service.text.Moderate(pb.ModerateRequest(texts=texts), metadata=as_user()).moderations)


def summarize(service: Running, text: str, sentences: int = 0) -> list[pb.SummarySentence]:
    request = pb.SummarizeRequest(text=text, max_sentences=sentences)
    return list(service.text.Summarize(request, metadata=as_user()).sentences)


def test_classify_ranks_the_labels_by_meaning(service: Running) -> None:
    texts = ["My parcel came two weeks late.", "How do I change my password?", "The soup was cold and the waiter rude."]
    labels = (
        pb.Label(name="delivery", description="a problem with the shipping of an order"),
        pb.Label(name="account", description="a question about logging in"),
        "restaurant",
    )
    ranked = classify(service, texts, *labels)
    assert [scores[0].name for scores in ranked] == ["delivery", "account", "restaurant"]
    for scores in ranked:
        assert abs(sum(score.score for score in scores) - 1) < 1e-5
        assert [score.similarity for score in scores] == sorted((s.similarity for s in scores), reverse=True)


def test_classify_compares_by_the_same_vectors_as_embed(service: Running) -> None:
    response = service.text.Embed(pb.EmbedRequest(texts=["tea", "a drink"]), metadata=as_user())
    tea, drink = (np.array(embedding.values) for embedding in response.embeddings)
    (scores,) = classify(service, ["tea"], "a drink", "a bridge")
    assert abs(next(s.similarity for s in scores if s.name == "a drink") - tea @ drink) < 1e-4


def test_classify_holds_its_limits_from_both_sides(service: Running) -> None:
    names = [f"label {number}" for number in range(101)]
    assert len(classify(service, ["a"] * 64, "x", "y")) == 64
    assert len(classify(service, ["a"], *names[:100])[0]) == 100
    assert len(classify(service, ["a" * 32_768], pb.Label(name="n" * 100, description="d" * 1000), "y")) == 1
    assert invalid(lambda: classify(service, [], "x", "y")) == ["texts"]
    assert invalid(lambda: classify(service, ["a"] * 65, "x", "y")) == ["texts"]
    assert invalid(lambda: classify(service, ["a" * 32_769], "x", "y")) == ["texts[0]"]
    assert invalid(lambda: classify(service, ["a"], "x")) == ["labels"]
    assert invalid(lambda: classify(service, ["a"], *names)) == ["labels"]
    wrong = pb.Label(name="n" * 101, description="d" * 1001)
    assert invalid(lambda: classify(service, ["a"], wrong, "")) == [
        "labels[0].name",
        "labels[0].description",
        "labels[1].name",
    ]
    assert invalid(lambda: classify(service, ["a"], "x", "x")) == ["labels[1].name"]
    assert len(classify(service, ["a" * 32_768] * 32, "x", "y")) == 32
    assert invalid(lambda: classify(service, ["a" * 32_768] * 32 + ["a"], "x", "y")) == ["texts"]


def test_moderate_flags_insults_and_says_what_it_knows(service: Running) -> None:
    insult, thanks, hidden = moderate(service, "You are a complete idiot.", "Thank you, a great help.", "y0u 1d10t")
    assert [label.name for label in insult.labels] == ["offensive"]
    assert insult.flagged and insult.labels[0].score > 0.99
    assert not thanks.flagged and thanks.labels[0].score < 0.1
    assert not hidden.flagged  # a limit that the contract states


def test_moderate_holds_its_limits_from_both_sides(service: Running) -> None:
    assert len(moderate(service, *["a"] * 64)) == 64
    assert len(moderate(service, "a" * 32_768)) == 1
    assert invalid(lambda: moderate(service)) == ["texts"]
    assert invalid(lambda: moderate(service, *["a"] * 65)) == ["texts"]
    assert invalid(lambda: moderate(service, "a", "", "a" * 32_769)) == ["texts[1]", "texts[2]"]
    assert len(moderate(service, *["a" * 32_768] * 32)) == 32
    assert invalid(lambda: moderate(service, *["a" * 32_768] * 32, "a")) == ["texts"]


def test_a_text_is_flagged_from_one_half_on(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.service.moderation._model, "score", float)  # each text is its own score
    below, at, above = moderate(service, "0.499999", "0.5", "0.500001")
    assert (below.flagged, at.flagged, above.flagged) == (False, True, True)
    assert [round(found.labels[0].score, 6) for found in (below, at, above)] == [0.499999, 0.5, 0.500001]


def test_moderation_takes_little_time_while_embeddings_want_all_cores(service: Running) -> None:
    """It waits for none of them (test_bulk.py), and its thread gets a core soon, though both models want all."""
    bulk = pb.EmbedRequest(texts=["Many sockets at once. " * 40] * 256)
    calls, times = [service.text.Embed.future(bulk, metadata=as_user()) for _ in range(2)], list[float]()
    wait_until(lambda: service.metric('ai_queued_items{model="embed"}') > 256)
    for _ in range(15):
        begun = time.perf_counter()
        moderate(service, "You are a complete idiot.")
        times.append(time.perf_counter() - begun)
    assert not all(call.done() for call in calls)
    for call in calls:
        call.cancel()
    assert sorted(times)[len(times) // 2] < 0.15, times  # what a chat message may wait


def test_summarize_copies_sentences_with_their_places(service: Running) -> None:
    sentences = summarize(service, ARTICLE, 2)
    assert len(sentences) == 2
    assert [sentence.offset for sentence in sentences] == sorted(sentence.offset for sentence in sentences)
    for sentence in sentences:
        assert ARTICLE[sentence.offset : sentence.offset + len(sentence.text)] == sentence.text
        assert sentence.text.endswith(".")
    assert "Miso" not in " ".join(sentence.text for sentence in sentences)
    assert len(summarize(service, ARTICLE)) == 3
    assert len(summarize(service, ARTICLE, 20)) == 6


def test_summarize_does_not_choose_a_sentence_twice(service: Running) -> None:
    text = "Tea is made with hot water. " * 3 + "Coffee comes from roasted beans."
    chosen = summarize(service, text, 2)
    assert {sentence.text for sentence in chosen} == {"Tea is made with hot water.", "Coffee comes from roasted beans."}


def test_summarize_counts_characters_not_bytes(service: Running) -> None:
    text = "🙂 Grüße aus Köln an alle Freunde. The tea 🙂 is ready in the kitchen now."
    for sentence in summarize(service, text):
        assert text[sentence.offset : sentence.offset + len(sentence.text)] == sentence.text


def test_summarize_holds_its_limits_from_both_sides(service: Running) -> None:
    assert len(summarize(service, "a" * 100_000)) == 1
    assert len(summarize(service, "Tea is hot now. " * 1000, 1)) == 1
    assert summarize(service, " \n ") == []
    assert invalid(lambda: summarize(service, "")) == ["text"]
    assert invalid(lambda: summarize(service, "a" * 100_001)) == ["text"]
    assert invalid(lambda: summarize(service, "Tea is hot now. " * 1001)) == ["text"]
    assert invalid(lambda: summarize(service, "a", 21)) == ["max_sentences"]
    assert invalid(lambda: summarize(service, "a", -1)) == ["max_sentences"]


def stream(service: Running, requests: Iterator[pb.EmbedStreamRequest]) -> list[pb.EmbedStreamResponse]:
    return list(service.text.EmbedStream(requests, metadata=as_user()))


def test_a_stream_is_answered_message_by_message(service: Running) -> None:
    texts = [f"number {number}" for number in range(600)]
    messages = (pb.EmbedStreamRequest(texts=texts[at : at + 200]) for at in range(0, 600, 200))
    answers = stream(service, messages)
    assert [len(answer.embeddings) for answer in answers] == [200, 200, 200]
    last = service.text.Embed(pb.EmbedRequest(texts=texts[-1:]), metadata=as_user()).embeddings[0]
    assert np.allclose(answers[-1].embeddings[-1].values, last.values, atol=1e-3)
    assert stream(service, iter(())) == []


def test_a_stream_answers_while_the_request_goes_on(service: Running) -> None:
    answered = threading.Event()

    def messages() -> Iterator[pb.EmbedStreamRequest]:
        yield pb.EmbedStreamRequest(texts=["one"])
        assert answered.wait(20)
        yield pb.EmbedStreamRequest(texts=["two"])

    call = service.text.EmbedStream(messages(), metadata=as_user())
    next(call)
    answered.set()
    assert len(list(call)) == 1


def test_a_wrong_message_ends_the_stream_with_its_field(service: Running) -> None:
    """What came before it is answered."""
    wrong: list[tuple[list[str], list[str]]] = [
        ([], ["texts"]), (["a"] * 257, ["texts"]), (["a", ""], ["texts[1]"]), (["a", "a" * 32_769], ["texts[1]"]),
        (["a" * 32_768] * 32 + ["a"], ["texts"]),
    ]  # fmt: skip
    for texts, named in wrong:
        messages = iter([pb.EmbedStreamRequest(texts=["a"]), pb.EmbedStreamRequest(texts=texts)])
        answers: list[pb.EmbedStreamResponse] = []
        assert invalid(lambda m=messages, a=answers: a.extend(service.text.EmbedStream(m, metadata=as_user()))) == named
        assert len(answers) == 1


def test_each_message_of_a_stream_may_have_what_a_request_may(service: Running) -> None:
    """The limits are those of a message: a stream may have any number of them."""
    largest = ["a" * 32_768] * 32
    messages = [pb.EmbedStreamRequest(texts=texts) for texts in (["a"] * 256, largest, largest)]
    assert [len(answer.embeddings) for answer in stream(service, iter(messages))] == [256, 32, 32]


def test_the_characters_of_a_request_are_bounded_together(service: Running) -> None:
    most = ["\U0001f642" * 32_768] * 32  # 4 bytes each: the largest message that is allowed
    assert len(service.text.Embed(pb.EmbedRequest(texts=most), metadata=as_user()).embeddings) == 32
    assert invalid(lambda: service.text.Embed(pb.EmbedRequest(texts=[*most, "a"]), metadata=as_user())) == ["texts"]
