"""Services with other weights over what was indexed before: no search goes dark, and one process embeds all anew."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Loop, Running, as_service, as_user, held, serving, settings, wait_until
from hybrid.ai.v1 import search_service_pb2 as pb

from hybrid_ai.store.index import DocumentIndex
from hybrid_ai.store.reindex import identity_of

ANIMALS = ("walrus", "lion", "bee", "eagle", "spider", "shark", "horse", "snake")
MODES = (pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_VECTOR, pb.SEARCH_MODE_TEXT)


@pytest.fixture(scope="module")
def before(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which every vector is of no use to another model: all are the same."""
    folder = tmp_path_factory.mktemp("before")
    with serving(loop, settings(folder)) as service:
        for animal in ANIMALS:
            text = f"What a {animal} eats, and where it lives."
            document = pb.Document(id=animal, revision=1, text=text, owner="alice")
            service.search.Index(pb.IndexRequest(document=document), metadata=as_service())
    with database(folder) as file:
        file.execute("UPDATE vectors SET vector = (SELECT vector FROM vectors LIMIT 1)")
    return folder


@pytest.fixture
def folder(before: Path, tmp_path: Path) -> Path:
    return shutil.copytree(before, tmp_path / "data")


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A models folder that is told from the usual one by a line end in its tokenizer."""
    usual, made = settings(tmp_path).models_dir, tmp_path / "models"
    made.mkdir()
    for file in usual.iterdir():
        (made / file.name).symlink_to(file.resolve())
    (made / "tokenizer.json").unlink()
    (made / "tokenizer.json").write_bytes((usual / "tokenizer.json").read_bytes() + b"\n")
    assert identity_of(made) != identity_of(usual)
    return made


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(folder / "index.sqlite3", isolation_level=None)
    yield connection
    connection.close()


def embedded_by(folder: Path) -> dict[str, int]:
    """How many vectors each model has made."""
    with database(folder) as file:
        return dict(file.execute("SELECT name, count(*) FROM vectors JOIN models ON id = model GROUP BY name"))


def nearest(service: Running, animal: str) -> str:
    request = pb.SearchRequest(query=f"What does a {animal} eat?", mode=pb.SEARCH_MODE_VECTOR)
    return service.search.Search(request, metadata=as_user("alice")).results[0].document_id


def finds_everything(service: Running) -> bool:
    for mode in MODES:
        request = pb.SearchRequest(query="what eats and lives where", mode=mode, limit=50)
        found = service.search.Search(request, metadata=as_user("alice")).results
        assert {one.document_id for one in found} == set(ANIMALS), mode
    return True


def test_other_weights_embed_everything_anew_while_all_is_found(
    loop: Loop, folder: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, other = identity_of(settings(folder).models_dir), identity_of(others)
    go = held(loop, monkeypatch, DocumentIndex, "refresh")
    with serving(loop, settings(folder, AI_MODELS_DIR=str(others))) as service:
        assert finds_everything(service)
        assert embedded_by(folder) == {usual: len(ANIMALS)}
        go()
        wait_until(lambda: finds_everything(service) and embedded_by(folder) == {other: len(ANIMALS)})
        assert [nearest(service, animal) for animal in ANIMALS] == list(ANIMALS)


def test_the_first_of_several_processes_embeds_anew_and_the_others_follow(
    loop: Loop, folder: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, whose, refresh = {"AI_MODELS_DIR": str(others)}, list[DocumentIndex](), DocumentIndex.refresh

    async def counted(self: DocumentIndex) -> int:
        whose.append(self)
        return await refresh(self)

    monkeypatch.setattr(DocumentIndex, "refresh", counted)
    with serving(loop, settings(folder, AI_PROCESS="1", **models)) as second:
        wait_until(lambda: sum(task.done() for task in second.service._tasks) == 1)  # it has nothing left to do
        assert finds_everything(second) and not whose
        with serving(loop, settings(folder, **models)) as first:
            wait_until(lambda: embedded_by(folder) == {identity_of(others): len(ANIMALS)})
            for service in (first, second):
                assert [nearest(service, animal) for animal in ANIMALS] == list(ANIMALS)
            assert whose == [first.service.index]
