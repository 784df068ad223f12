"""``python -m benchmarks [--quick] [--output bench.json] [NAME ...]``: runs, prints, writes.

Each benchmark runs in a process of its own, one after the other, so that none inherits the
memory or the threads of the one before.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.figures import Row, Target, table
from controlplane import __version__

NAMES = (
    "fanout",
    "transports",
    "sustained",
    "report_to_weight",
    "discovery",
    "ingest",
    "solve",
    "real_envoys",
    "bodies",
)


def measure(name: str, *, quick: bool) -> list[dict[str, Any]]:
    """Run one benchmark; return its rows as JSON values.

    Raises:
        subprocess.CalledProcessError: it failed; its own words are on standard error.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", "--json"]
    done = subprocess.run(
        [*command, "--quick"] if quick else command, stdout=subprocess.PIPE, check=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def to_row(document: dict[str, Any]) -> Row:
    """Read a row back."""
    targets = tuple(
        Target(each["figure"], each["bound"], each["at_least"]) for each in document["targets"]
    )
    return Row(document["case"], document["figures"], targets)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small and short, some minutes in all")
    parser.add_argument("--output", type=Path, help="file to write as JSON")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    found: dict[str, Any] = {}
    for name in given.names or NAMES:
        title: str = importlib.import_module(f"benchmarks.{name}").TITLE
        print(f"{title} ...", file=sys.stderr)
        found[name] = measure(name, quick=given.quick)
        print(table(title, [to_row(each) for each in found[name]]), flush=True)
    if given.output is not None:
        machine = {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
            "load": os.getloadavg()[0],
        }
        document = {
            "version": __version__,
            "quick": given.quick,
            "machine": machine,
            "benchmarks": found,
        }
        given.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
