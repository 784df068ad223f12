"""The audit of the locks, against a source of ours that speaks OSV's API."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from testbed.fakes.web_servers import serving_routes
from testbed.processes.ports import free_port

ROOT = Path(__file__).parents[2]
LOCK = f"good==1.0 --hash=sha256:{'0' * 64}\nbad==2.0 --hash=sha256:{'1' * 64}\n"
ADVISORY = {
    "id": "PYSEC-1",
    "affected": [
        {
            "package": {"name": "bad", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}],
        }
    ],
}


@asynccontextmanager
async def source(advisories: Mapping[str, object]) -> AsyncIterator[str]:
    """Serve package -> its advisory; give the URL."""

    async def answer(request: web.Request) -> web.Response:
        name = json.loads(await request.read())["package"]["name"]
        return web.json_response({"vulns": [advisories[name]]} if name in advisories else {})

    async with serving_routes(web.post("/v1/query", answer)) as port:
        yield f"http://127.0.0.1:{port}/v1/query"


async def audit(directory: Path, url: str, *, modules: str = "") -> tuple[int, str]:
    """Run it on a small lock; give status and output."""
    lock = directory / "lock.txt"
    lock.write_text(LOCK, encoding="utf-8")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "requirements/audit.py", str(lock), "--source", "osv", "--osv-url", url),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": modules},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(child.communicate(), 60)
    status = child.returncode
    assert status is not None
    return status, said.decode()


async def test_a_known_vulnerability_fails_it_by_name(tmp_path: Path) -> None:
    """With its id, and the version in which it is fixed."""
    async with source({"bad": ADVISORY}) as url:
        status, said = await audit(tmp_path, url)

    assert 1 == status
    assert "bad 2.0: PYSEC-1, fixed in 2.1" in said
    assert "lock.txt: 2 audited at osv, 1 with a known vulnerability" in said


async def test_a_clean_lock_passes(tmp_path: Path) -> None:
    """And says what it was held to."""
    async with source({}) as url:
        assert (0, "lock.txt: 2 audited at osv, 0 with a known vulnerability\n") == await audit(
            tmp_path, url
        )


async def test_a_source_that_is_away_is_reported_and_not_fatal(tmp_path: Path) -> None:
    """Nothing is known then, which is no reason to stop and none to be at ease."""
    status, said = await audit(tmp_path, f"http://127.0.0.1:{free_port()}/v1/query")

    assert 0 == status
    assert "osv does not answer for lock.txt" in said
    assert "nothing was audited" in said


async def test_a_source_that_knows_nothing_is_no_good_news(tmp_path: Path) -> None:
    """A mirror of the index has no advisories, and what is skipped has no vulnerability."""
    (tmp_path / "pip_audit").mkdir()
    (tmp_path / "pip_audit" / "__init__.py").touch()
    skipped = [{"name": name, "skip_reason": "not found"} for name in ("good", "bad")]
    (tmp_path / "pip_audit" / "__main__.py").write_text(
        f"print({json.dumps(json.dumps({'dependencies': skipped}))})", encoding="utf-8"
    )
    status, said = await audit(tmp_path, "http://127.0.0.1:1/", modules=str(tmp_path))

    assert 0 == status
    assert "osv knows none of the 2 packages of lock.txt" in said
    assert "nothing was audited" in said
