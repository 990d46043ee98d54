"""Generates Python code from the contracts into gen/ (ignored by git): messages, gRPC stubs, and their types.

    .venv/bin/python -m setup.contracts

google.api is not generated: googleapis-common-protos has it.
"""

import os
import shutil
import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = Path(os.environ.get("AI_CONTRACTS_DIR", ROOT.parent.parent / "proto"))
GENERATED = ROOT / "gen"


def main() -> int:
    fresh = GENERATED.with_name("gen.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    files = sorted(str(path.relative_to(CONTRACTS)) for path in (CONTRACTS / "hybrid").rglob("*.proto"))
    if not files:
        print(f"contracts: no .proto files in {CONTRACTS}/hybrid", file=sys.stderr)
        return 1
    scripts = Path(sys.executable).parent
    well_known = resources.files("grpc_tools") / "_proto"
    status = protoc.main(
        ["protoc", f"-I{CONTRACTS}", f"-I{well_known}"]
        + [f"--{name}_out={fresh}" for name in ("python", "grpc_python", "mypy", "mypy_grpc")]
        + [f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
        + files
    )
    if status != 0:
        return int(status)
    shutil.rmtree(GENERATED, ignore_errors=True)
    fresh.rename(GENERATED)
    print(f"contracts: {len(files)} files generated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
