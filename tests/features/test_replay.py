"""A running control plane records; the recording is decided again under another policy."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from controlplane.app.serving import running
from controlplane.app.settings import Settings
from controlplane.controller.cycle_result import CycleResult
from controlplane.diagnostics.recording import NEWER, OLDER, Recorder, RecordingError, read_frames
from controlplane.model import InstanceReport, Signal, Source, TrafficReport

FLEET = """
version: 1
sites: [{name: north, kind: edge}, {name: cloud, kind: cloud}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat}], models: [{name: m}]}
instances:
  - {name: near, site: north, address: "127.0.0.1:9001", model: m, slots: 2, service_time: 900ms}
  - {name: far, site: cloud, address: "127.0.0.1:9002", model: m, slots: 32, service_time: 100ms}
network: {paths: [{from: north, to: cloud, rtt: 20ms}]}
steering: {period: 100ms, expiry: 3h}
"""


async def cats(*words: str) -> tuple[int, str]:
    """Run a command; give its status and its output."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controlplane", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, reported = await child.communicate()
    return child.returncode or 0, said.decode() or reported.decode()


async def test_what_was_recorded_reports_what_another_policy_loses(tmp_path: Path) -> None:
    """Sending all to a slow near instance loses against the optimum, by prediction."""
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET, encoding="utf-8")
    recording = tmp_path / "recording"
    settings = Settings(
        file, xds=("127.0.0.1", 0), admin=("127.0.0.1", 0), settle=0.0, record=recording
    )
    cycles = asyncio.Queue[CycleResult]()
    async with running(settings) as run:
        run.control.cycle.completed.subscribe(cycles.put_nowait)
        for _ in range(6):
            now = run.control.clock()
            for name in ("near", "far"):
                run.control.receive(InstanceReport(name, Source.AGENT, now, {Signal.RUNNING: 1.0}))
            run.control.receive(
                TrafficReport("envoy-1", "north", "chat", "near", now, 1.0, 5.0, 5.0)
            )
            await asyncio.wait_for(cycles.get(), 60)

    status, said = await cats("replay", str(recording), "--policy", "nearest", "--json")
    summary = json.loads(said)
    wrong, reported = await cats("replay", str(recording), "--policy", "nearst")
    empty, missing = await cats("replay", str(tmp_path), "--policy", "nearest")

    assert 0 == status
    assert summary["cycles"] >= 6
    before, after = summary["services"]["chat"]["latency"]
    assert after > before
    assert summary["services"]["chat"]["moved"] > 0.1
    assert summary["cost"][1] > summary["cost"][0]
    assert (2, True) == (wrong, "no policy 'nearst'; known: optimal" in reported)
    assert 2 == empty, missing


def test_a_recording_stays_within_its_limit(tmp_path: Path) -> None:
    """The newest is kept, in the order of time."""
    recorder = Recorder(tmp_path, fleet=FLEET, limit=4000)
    for n in range(100):
        recorder.take(InstanceReport("near", Source.AGENT, float(n), {Signal.RUNNING: 1.0}))
        recorder.write({"north": 1}, now=float(n))
    recorder.close()

    size = sum((tmp_path / name).stat().st_size for name in (NEWER, OLDER))
    instants = [frame.at for frame in read_frames(tmp_path)]
    assert size <= 4000
    assert instants == sorted(instants)
    assert 99.0 == instants[-1]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    """Anything else that is no recording is reported with its line."""
    recorder = Recorder(tmp_path, fleet=FLEET)
    recorder.write({}, now=1.0)
    recorder.close()
    whole = (tmp_path / NEWER).read_bytes()
    (tmp_path / NEWER).write_bytes(whole + b'{"at":')
    assert [1.0] == [frame.at for frame in read_frames(tmp_path)]

    (tmp_path / NEWER).write_bytes(whole + b"nonsense\n")
    with pytest.raises(RecordingError, match=r"reports\.jsonl:2"):
        list(read_frames(tmp_path))
