"""What is published: the source distribution and the licences that its metadata names."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path

from controlplane.cli import COMMANDS

ROOT = Path(__file__).parents[2]


def test_the_source_distribution_builds_and_holds_no_test(tmp_path: Path) -> None:
    """It has the code with its traces and their licences, and half of no test suite."""
    command = f"import setuptools.build_meta as b; b.build_sdist({str(tmp_path)!r})"
    subprocess.run(  # from a copy, since building writes beside the sources
        [sys.executable, "-W", "ignore", "-c", command],
        cwd=_copy(tmp_path / "sources"),
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
        root = archive.name.removesuffix(".tar.gz")
        information = content.extractfile(f"{root}/PKG-INFO")
        assert information is not None
        metadata = Parser().parsestr(information.read().decode())

    assert not {name for name in names if name.split("/")[0] in ("tests", "testbed", "benchmarks")}
    assert {"LICENSE", "controlplane/sim/traces/README.md", "controlplane/app/serving.py"} <= names
    assert {"controlplane/admin_api/dashboard/app.js", "controlplane/py.typed"} <= names
    assert "Apache-2.0 AND CC-BY-4.0" == metadata["License-Expression"]
    assert "controlplane/sim/traces/README.md" in metadata.get_all("License-File", [])


def _copy(target: Path) -> Path:
    """Copy what the repository holds to *target*."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    wanted = ("controlplane", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "tests")
    for name in filter(None, map(bytes.decode, names)):
        source = ROOT / name
        if name.split("/")[0] in wanted and source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(source.read_bytes())
    return target


def test_the_licence_of_every_trace_is_stated() -> None:
    """Beside the traces, where a user of one finds it."""
    folder = ROOT / "controlplane" / "sim" / "traces"
    stated = (folder / "README.md").read_text(encoding="utf-8")
    traces = sorted(file.name for file in folder.glob("*.gz"))

    assert traces
    for name in traces:
        row = next(line for line in stated.splitlines() if f"`{name}`" in line)
        assert "CC-BY 4.0" in row or "Apache-2.0" in row


def test_the_readme_of_the_package_leads_nowhere_that_an_index_lacks() -> None:
    """Paths of the repository are broken links on an index; its commands are those that exist."""
    text = (ROOT / "controlplane" / "README.md").read_text(encoding="utf-8")
    commands = {line.split()[1] for line in text.splitlines() if line.startswith("cats ")}

    assert [] == re.findall(r"\]\((?!https://)[^)]*\)", text)
    assert commands
    assert commands <= COMMANDS.keys()
