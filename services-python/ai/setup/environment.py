"""Makes the virtual environment and installs the hash-pinned packages. Only the standard library is used.

python3 -m setup.environment [--dev]      run in services-python/ai
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
RECORD = ENVIRONMENT / "installed.sha256"


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs on whatever python3 is
        print(f"setup: Python 3.11 or newer is needed; this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    names = ["requirements.txt", "requirements-setup.txt"] + (["requirements-dev.txt"] if "--dev" in arguments else [])
    wanted = [hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in names]
    if RECORD.is_file() and set(wanted) <= set(RECORD.read_text().split()):
        print("packages: installed already")
        return 0
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print("packages: making .venv")
        venv.create(ENVIRONMENT, with_pip=True)
    files = [part for name in names for part in ("-r", str(ROOT / name))]
    print(f"packages: installing {', '.join(names)} (about 130 MB)", flush=True)
    # --no-deps: the files are complete, and leave out what is never used (see lock.sh).
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--require-hashes",
        "--disable-pip-version-check",
        *files,
    ]
    status = subprocess.run(command, check=False).returncode
    if status != 0:
        return status
    _add_paths(python)
    RECORD.write_text("\n".join(wanted) + "\n")
    return 0


def _add_paths(python: Path) -> None:
    """Lets the environment import the service (src) and the generated code (gen) from the folder itself."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(
        subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    )
    lines = [os.path.relpath(ROOT / name, packages) for name in ("src", "gen")]
    (packages / "hybrid_ai.pth").write_text("\n".join(lines) + "\n")
    for name in ("src", "gen"):  # a path that does not exist when Python starts is left out of sys.path
        (ROOT / name).mkdir(exist_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
