"""Training jobs: real processes that burn time, and jobs that push."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from controlplane.agent.training import MAX_PUSHED, ProcessWatch, PushedJobs

BURN = "import time\nwhile True: pass"


async def test_a_running_job_is_measured_and_its_end_noticed() -> None:
    """A process that takes a whole processor, known by a word of its command line."""
    name = f"cats-train-{os.getpid()}"
    watch = ProcessWatch([f"{name}$"])
    assert watch.share(now=time.monotonic()) is None
    job = await asyncio.create_subprocess_exec(sys.executable, "-c", BURN, name)
    try:
        async with asyncio.timeout(60):
            watch._scanned_at = None
            while not watch.share(now=time.monotonic()):
                watch._scanned_at = None
                await asyncio.sleep(0.1)
    finally:
        job.kill()
        await job.wait()

    assert watch.share(now=time.monotonic()) is None


def test_nothing_is_watched_where_nothing_is_configured() -> None:
    """Looking through processes costs."""
    assert ProcessWatch([]).share(now=0.0) is None


def test_pushed_shares_add_up_until_they_run_out() -> None:
    """A job that is pushed again counts once; jobs are bounded in number."""
    jobs = PushedJobs()
    jobs.push("a", 0.3, until=10.0)
    jobs.push("a", 0.5, until=20.0)
    jobs.push("b", 0.7, until=15.0)

    assert (1.0, 0.5, None) == tuple(jobs.share(now=now) for now in (1.0, 16.0, 20.0))

    for number in range(3 * MAX_PUSHED):
        jobs.push(str(number), 0.01, until=30.0 + number)
    assert MAX_PUSHED == len(jobs._jobs)
