"""Passages: exact offsets, nothing lost, and the token budget, for any text."""

import random

import pytest
from conftest import settings

from hybrid_ai.models.embedder import TextTokenizer
from hybrid_ai.store.contracts import documents
from hybrid_ai.store.passages import MAX_CHARACTERS, TOKEN_BUDGET, sentences, split


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return TextTokenizer(settings(tmp_path_factory.mktemp("data")).models_dir)


def check(text: str, tokenizer: TextTokenizer) -> None:
    """Passages are the text's own, in order, hold all of it but space, and keep to both bounds."""
    passages = split(text, tokenizer)
    end = 0
    for passage in passages:
        assert text[passage.offset : passage.offset + len(passage.text)] == passage.text
        assert text[end : passage.offset].strip() == ""
        end = passage.offset + len(passage.text)
    assert text[end:].strip() == ""
    counts = tokenizer.count([passage.text for passage in passages])
    assert max(counts, default=0) <= TOKEN_BUDGET + 5  # a cut inside a very long word adds a few
    assert max((len(passage.text) for passage in passages), default=0) <= MAX_CHARACTERS


def noise(chance: random.Random) -> str:
    """Text of words, headings, lists, tables, long runs and other scripts."""
    parts = [
        "word",
        "Sentence one. Sentence two!",
        "\n\n# Heading\n",
        "\n- item",
        "\n| a | b |",
        "🙂",
        "日本語の文章です。",
    ]
    parts += [" ", "\n", "\n\n", "x" * 700, "…", "supercalifragilistic " * 90, "\t", "## not a heading", "e\u0301"]
    return " ".join(chance.choice(parts) for _ in range(chance.randint(0, 120)))


@pytest.mark.parametrize("seed", range(25))
def test_passages_are_exact_complete_and_within_the_budget(tokenizer: TextTokenizer, seed: int) -> None:
    check(noise(random.Random(seed)), tokenizer)


LONG = ["a" * 20_000, "🙂" * 9000, ("a" * 150 + " ") * 200, (" " * 5000 + "a") * 9, "a" + "\u200b" * 9000]
LONG += ["\u0301" * 9000, "A word. " + "x" * 4096 + " and more.", "![](data:" + "QUJD/+" * 5000 + ")"]


@pytest.mark.parametrize("text", LONG)
def test_what_has_few_tokens_and_many_characters_is_split_too(tokenizer: TextTokenizer, text: str) -> None:
    check(text, tokenizer)


def test_a_passage_may_have_the_most_characters_and_none_more(tokenizer: TextTokenizer) -> None:
    assert [len(passage.text) for passage in split("x" * MAX_CHARACTERS, tokenizer)] == [MAX_CHARACTERS]
    assert [len(passage.text) for passage in split("x" * (MAX_CHARACTERS + 1), tokenizer)] == [MAX_CHARACTERS, 1]


def test_sections_start_passages(tokenizer: TextTokenizer) -> None:
    text = "# One\n\n" + "A sentence about one. " * 12 + "\n\n# Two\n\n" + "A sentence about two. " * 12
    first, second = split(text, tokenizer)
    assert first.text.startswith("# One") and second.text.startswith("# Two")


def test_a_table_s_rows_and_a_list_s_items_are_sentences_of_their_own() -> None:
    text = "It works. So it does.\n- one item\n- another item\n| A | b |\n| C | d |"
    assert sentences(text) == ["It works.", "So it does.", "- one item", "- another item", "| A | b |", "| C | d |"]


def test_contracts_become_a_document_for_each_service_and_method() -> None:
    source = """
    syntax = "proto3";
    package a.v1;
    // Sings songs.
    service SongService {
      // Sings one song. Loudly.
      rpc Sing(SingRequest) returns (stream SingResponse) {
        option (google.api.http) = {
          post: "/v1/song:sing"
          additional_bindings: {get: "/v1/song"}
        };
        option (x.access) = {
          level: ACCESS_LEVEL_AUTHENTICATED
          scopes: "songs"
        };
      }
    }
    // What to sing.
    message SingRequest {
      // The song's
      // name.
      string name = 1;
      // How.
      oneof how {
        // By heart.
        bool heart = 2;
      }
    }
    // A tone.
    message SingResponse {}
    """
    service, method = documents(source)
    assert service[:2] == ("a.v1.SongService", "SongService (a.v1)")
    assert service[2] == "Sings songs.\n\nMethods:\n- Sing: Sings one song."
    assert method[:2] == ("a.v1.SongService/Sing", "SongService.Sing")
    assert method[2] == (
        "Sings one song. Loudly.\n\nOver HTTP: POST /v1/song:sing.\n\nOver HTTP: GET /v1/song.\n\n"
        "Access: authenticated, with the scope songs.\n\nThe response is a stream of events.\n\n"
        "SingRequest: What to sing.\n- name: The song's name.\n- heart: By heart.\n\nSingResponse: A tone."
    )
