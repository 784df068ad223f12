"""Generate the Python classes of our own protocol into ``controlplane/wire``.

``--check`` compares instead of writing and exits 1 when they differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).parent
TARGET = PROTOS.parent / "controlplane" / "wire"


def generate(target: Path) -> None:
    """Write the classes and their type stubs below *target*."""
    sources = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"-I{PROTOS}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            *sources,
        ]
    )
    if status != 0:
        raise SystemExit(status)


def generated(folder: Path) -> dict[str, str]:
    """Give the generated files below *folder* by their relative names."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for pattern in ("*_pb2.py", "*_pb2.pyi")
        for path in sorted(folder.rglob(pattern))
    }


def main() -> None:
    """Generate or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        TARGET.mkdir(exist_ok=True)
        generate(TARGET)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        if generated(Path(folder)) != generated(TARGET):
            sys.exit("generated classes are not those of the protos: run python protos/generate.py")


if __name__ == "__main__":
    main()
