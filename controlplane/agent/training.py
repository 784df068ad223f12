"""Notices training jobs on the machine: the share of it that they take.

Three ways, of which the largest share counts: processes whose command line matches, metrics, and
jobs that push their share to the agent.
Looking through all processes is expensive, so it is done rarely; processes known to train are
measured at each look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import psutil

SCAN_PERIOD = 5.0
"""Seconds between two looks through all processes."""
MAX_PUSHED = 64
"""Jobs that may push at once."""


class ProcessWatch:
    """Measures the processor time of processes whose command line matches."""

    def __init__(self, patterns: Iterable[str]) -> None:
        joined = "|".join(f"(?:{pattern})" for pattern in patterns)
        self._pattern = re.compile(joined) if joined else None
        self._scanned_at: float | None = None
        self._jobs: dict[int, tuple[psutil.Process, float]] = {}
        """Process id -> process, processor seconds at the last look."""
        self._looked_at: float | None = None

    @property
    def jobs(self) -> frozenset[int]:
        """Ids of the processes that trained at the last look."""
        return frozenset(self._jobs)

    def share(self, *, now: float) -> float | None:
        """Return the share of the machine's processors that jobs took since the last look.

        Returns:
            0 to 1; None where nothing is watched or no job runs.
        """
        if self._pattern is None:
            return None
        if self._scanned_at is None or now - self._scanned_at >= SCAN_PERIOD:
            self._scanned_at = now
            self._scan(self._pattern)
        elapsed = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        spent = 0.0
        for pid, (process, before) in list(self._jobs.items()):
            seconds = _seconds(process)
            if seconds is None:
                del self._jobs[pid]
                continue
            spent += max(0.0, seconds - before)
            self._jobs[pid] = process, seconds
        if not self._jobs:
            return None
        return min(1.0, spent / elapsed / (psutil.cpu_count() or 1)) if elapsed > 0 else 0.0

    def _scan(self, pattern: re.Pattern[str]) -> None:
        for process in psutil.process_iter():
            if process.pid in self._jobs:
                continue
            try:
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if command and pattern.search(command):
                seconds = _seconds(process)
                if seconds is not None:
                    self._jobs[process.pid] = process, seconds


def _seconds(process: psutil.Process) -> float | None:
    try:
        if not process.is_running():  # also says a process id that was given again
            return None
        times = process.cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)


class PushedJobs:
    """Shares that jobs notified of themselves, each until it runs out."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[float, float]] = {}

    def push(self, job: str, share: float, *, until: float) -> None:
        """Note that *job* takes *share* of the machine, 0 to 1, *until* an instant."""
        if job not in self._jobs and len(self._jobs) >= MAX_PUSHED:
            oldest = min(self._jobs, key=lambda name: self._jobs[name][1])
            del self._jobs[oldest]
        self._jobs[job] = (share, until)

    def share(self, *, now: float) -> float | None:
        """Return what all jobs take together; none without a job."""
        self._jobs = {job: reported for job, reported in self._jobs.items() if reported[1] > now}
        return min(1.0, sum(share for share, _ in self._jobs.values())) if self._jobs else None
