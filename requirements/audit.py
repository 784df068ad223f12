"""Ask an advisory source whether anything that the locks pin has a known vulnerability.

Exit status 1 if something has. A source out of reach is reported and is not fatal, since then
nothing is known; so is one that knows none of what was asked, as a mirror of the index does, which
pip-audit itself takes for good news.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LOCKS = tuple(HERE / f"{name}.txt" for name in ("run", "dev", "models"))
SOURCES = ("pypi", "osv")
TIMEOUT = 15
"""Seconds until a source counts as away; of one connection."""


def main(arguments: list[str] | None = None) -> int:
    """Audit the locks with the first source that answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", nargs="*", type=Path, default=LOCKS, metavar="LOCK")
    parser.add_argument("--source", action="append", choices=SOURCES, help="by default both")
    parser.add_argument("--osv-url", help="of a server that speaks OSV's API")
    options = parser.parse_args(arguments)
    for source in options.source or SOURCES:
        answers = []
        for lock in options.locks:
            answer = ask(source, lock, osv_url=options.osv_url)
            if answer is None:
                break
            answers.append((lock, answer))
        else:
            return tell(source, answers)
    print("no advisory source can be reached: nothing was audited")
    return 0


def ask(source: str, lock: Path, *, osv_url: str | None = None) -> list[dict[str, Any]] | None:
    """Return what *source* says of each package of *lock*; None where it does not answer."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip"]
    command += ["--require-hashes", "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", str(TIMEOUT), "--vulnerability-service", source]
    if osv_url is not None:
        command += ["--osv-url", osv_url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except ValueError:
        lines = ran.stderr.strip().splitlines() or ["it said nothing"]
        print(f"{source} does not answer for {lock.name}: {lines[-1][:300]}")
        return None
    if all("vulns" not in each for each in packages):
        print(
            f"{source} knows none of the {len(packages)} packages of {lock.name}; is it a mirror?"
        )
        return None
    return packages


def tell(source: str, answers: list[tuple[Path, list[dict[str, Any]]]]) -> int:
    """Print what was found; give the exit status."""
    status = 0
    for lock, packages in answers:
        found = [each for each in packages if each.get("vulns")]
        unknown = [each["name"] for each in packages if "vulns" not in each]
        for each in found:
            for one in each["vulns"]:
                fixed = ", ".join(one["fix_versions"]) or "no version yet"
                print(f"{each['name']} {each['version']}: {one['id']}, fixed in {fixed}")
        print(
            f"{lock.name}: {len(packages) - len(unknown)} audited at {source},"
            f" {len(found)} with a known vulnerability"
            + (f"; not known there: {', '.join(unknown)}" if unknown else "")
        )
        status = status or int(bool(found))
    return status


if __name__ == "__main__":
    sys.exit(main())
