"""Every command in the documentation runs as written.

From the root of a clone, in a network and a file system of its own: every port is free, and what
is installed is gone afterwards. What other machines would have to do (a registry, a cluster, an
init system) is done by stand-ins, which fail where the real ones would for a wrong name.
"""

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

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "examples/scenarios/README.md": "takes minutes; tests/cli runs the command on small ones",
    "examples/sessions/README.md": "takes a minute; tests/sim/test_scenario.py reads what it runs",
    "examples/real_models/README.md": "downloads models; tests/examples/test_real_models.py",
}
PAGES = {
    str(page.relative_to(ROOT)): page
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if re.search(r"^```(console|sh)$", page.read_text(encoding="utf-8"), re.MULTILINE)
}
SERVERS = {
    r"cats serve -c": "wait_for -f localhost:18080/readyz",
    r"\benvoy -c\b": "wait_for localhost:10000/",
    r"testbed\.fakes\.instances --port (\d+)": "wait_for localhost:{0}/health",
    r"cats agent -c \S+$": "wait_for localhost:18090/v1/state",
    r"port-forward": "wait_for -f localhost:18080/readyz",
}
"""What runs on and on, in a terminal of its own, and how to see that it does."""

WITHIN = 500.0
"""Seconds for the commands of a page; twelve of processor time are the most that one takes."""
PRELUDE = (Path(__file__).parent / "prelude.sh").read_text(encoding="utf-8")


def commands(page: Path) -> list[str]:
    """Return the commands of a page's blocks, in order; lines that a backslash joins are one."""
    found = []
    text = page.read_text(encoding="utf-8")
    for kind, block in re.findall(r"^```(console|sh)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines = re.sub(r"\\\n\s*", "", block).splitlines()
        if kind == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        found += [re.sub(r"\s+#\s.*$", "", line).strip() for line in lines if line.strip()]
    return found


def script(lines: list[str]) -> str:
    """Return *lines* as one script; what runs on and on runs beside the rest, and is waited for."""
    made = [PRELUDE, "set -x"]
    for line in lines:
        asked = line.removesuffix("&").strip()
        waits = [
            wait.format(*found.groups())
            for server, wait in SERVERS.items()
            if (found := re.search(server, asked)) is not None
        ]
        if line.endswith("&") or waits:
            made.append(f'{{ {asked}; }} > "$HOME/background.log" 2>&1 &')
            made += waits
        else:
            made.append(line)
    return "\n".join(made)


async def may_have_a_machine_of_its_own() -> bool:
    """Return whether `unshare` is there and allowed."""
    if shutil.which("unshare") is None or shutil.which("curl") is None:
        return False
    child = await asyncio.create_subprocess_exec(
        *("unshare", "-rnm", "true"), stderr=asyncio.subprocess.DEVNULL
    )
    return await child.wait() == 0


def test_every_page_that_is_left_out_is_still_there() -> None:
    """A page that is run elsewhere is named here, and no other."""
    assert set(ELSEWHERE) <= set(PAGES)


@pytest.mark.envoy
@pytest.mark.parametrize("name", sorted(PAGES.keys() - ELSEWHERE.keys()))
async def test_every_command_runs_as_written(name: str, tmp_path: Path) -> None:
    """The whole page as one script, in which no command may fail."""
    if not await may_have_a_machine_of_its_own():
        pytest.skip("needs curl, and unshare to be allowed to make a network and mounts")
    root, home = tmp_path / "root", tmp_path / "home"
    home.mkdir()
    shutil.copytree(
        ROOT, root, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__")
    )
    (root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    environment = {
        **os.environ,
        "HOME": str(home),
        "PYTHON": sys.executable,
        "KUBECTL": shutil.which("kubectl", path=str(Path(sys.executable).parent)) or "kubectl",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
    }
    said = tmp_path / "said.log"
    with said.open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *("unshare", "-rnm", "bash", "-c", script(commands(PAGES[name]))),
            cwd=root,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = await asyncio.wait_for(child.wait(), WITHIN)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # what it left running beside it

    assert 0 == status, said.read_text(encoding="utf-8")[-4000:]
