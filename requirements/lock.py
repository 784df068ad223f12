"""Pin what ``pyproject.toml`` asks for: ``run.txt`` to serve, ``dev.txt`` to work on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OPTIONS = [
    "--quiet", "--upgrade", "--generate-hashes", "--strip-extras", "--allow-unsafe",
    "--no-header", "--no-annotate",
    "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options",
]  # fmt: skip


def main() -> None:
    """Write both files."""
    for name, extra in (("run", []), ("dev", ["--all-extras", "--all-build-deps"])):
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, *extra]
        subprocess.run(
            [*command, "--output-file", str(HERE / f"{name}.txt"), "pyproject.toml"],
            cwd=HERE.parent,
            check=True,
        )


if __name__ == "__main__":
    main()
