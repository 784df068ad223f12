"""The documentation: every link inside resolves, every command runs, the reference is current."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from controlplane.config.reference import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/**/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
)
RUN = [
    page for page in sorted(ROOT.glob("docs/**/*.md")) if "```console" in page.read_text("utf-8")
]
"""The simulations of examples/scenarios take minutes; tests/cli runs the command on small ones."""
PRELUDE = """
set -eu
"$PYTHON" - <<'END'
import fcntl, socket, struct
with socket.socket() as lo:  # bring loopback up in the network of this script
    fcntl.ioctl(lo, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
END
# An environment that was moved has scripts that no longer start; the command is the same.
cats --version > /dev/null 2>&1 || cats() { "$PYTHON" -m controlplane "$@"; }
"""


def name_of(path: Path) -> str:
    """Give a page's name in the repository."""
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """Give the anchors that GitHub makes of headings."""
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_resolves(page: Path) -> None:
    """Files exist, and so do the headings in them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    assert [] == broken


def test_every_page_is_reached_from_the_index() -> None:
    """Nobody writes a page that nobody finds."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert set() == pages - set(re.findall(r"\]\(([^)#\s]+)\)", index)) - {"README.md"}


def test_the_reference_is_of_the_present_schema() -> None:
    """`python -m controlplane.config.reference` writes it."""
    assert reference() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def commands(page: Path) -> list[str]:
    """Give the commands of a page's console blocks, in order."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [
        line.removeprefix("$ ")
        for block in blocks
        for line in block.splitlines()
        if line.startswith("$ ")
    ]


async def may_have_a_network_of_its_own() -> bool:
    """Tell whether `unshare` is there and allowed."""
    if shutil.which("unshare") is None or shutil.which("curl") is None:
        return False
    child = await asyncio.create_subprocess_exec(
        "unshare", "-rn", "true", stderr=asyncio.subprocess.DEVNULL
    )
    return await child.wait() == 0


@pytest.mark.envoy
@pytest.mark.parametrize("page", RUN, ids=name_of)
async def test_every_command_runs_as_written(page: Path, tmp_path: Path) -> None:
    """From the root of a clone, in a network of its own, so that every port is free."""
    if not await may_have_a_network_of_its_own():
        pytest.skip("needs curl, and unshare to be allowed to make a network")
    (tmp_path / "root").mkdir()
    for name in ("examples", "testbed", "controlplane"):
        (tmp_path / "root" / name).symlink_to(ROOT / name)
    (tmp_path / "root" / ".venv").symlink_to(Path(sys.executable).parent.parent)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
    }
    lines = [
        # What runs beside the rest says what it has to say elsewhere.
        f'{line[:-1]} > "$HOME/background.log" 2>&1 &' if line.endswith("&") else line
        for line in commands(page)
    ]
    script = "\n".join([PRELUDE, "set -x", *lines])
    said = tmp_path / "said.log"
    with said.open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *("unshare", "-rn", "bash", "-c", script),
            cwd=tmp_path / "root",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = await asyncio.wait_for(child.wait(), 150)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # what it left running beside it

    assert 0 == status, said.read_text(encoding="utf-8")[-4000:]
