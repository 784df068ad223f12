"""Bad days of scarcity: no disk, no memory, a broker that takes nothing, Envoys that restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import nats
import psutil
import pytest

from controlplane.bus.nats import BUCKET
from testbed.fakes import large_fleets
from testbed.fakes.metrics_pages import Load
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_port
from testbed.tools.fault_beds import Bed, fault_bed
from testbed.tools.secured_files import secured

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(600)]

LONG = "CATS_FAULTS" in os.environ
"""Whether this is ``make faults``, which takes its time."""


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Return the test's name, for its row."""
    return str(request.node.name)


def first(bed: Bed) -> ControlPlaneProcess:
    """Return the first control plane."""
    return bed.replicas.running[0]


def weigh(bed: Bed, weight: int) -> None:
    """Write another weight into the file, which makes another plan."""
    text = bed.fleet.read_text(encoding="utf-8").partition("overrides:")[0]
    bed.fleet.write_text(
        f"{text}overrides: [{{service: chat, instance: a, weight: {weight}}}]\n", encoding="utf-8"
    )


async def served(bed: Bed, weight: int, number: int = 0) -> bool:
    """Return whether a replica has put the file with *weight* in force."""
    found = await bed.replicas.running[number].get_json("/api/v1/overrides")
    return [each["override"].get("weight") for each in found["overrides"]] == [weight]


@contextlib.contextmanager
def small_disk(place: Path, *, kilobytes: int = 512) -> Iterator[None]:
    """Mount a disk that is soon full."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("a disk of its own can be mounted by root only")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


async def test_the_disk_fills_up(tmp_path: Path, name: str) -> None:
    """What cannot be saved is reported and served all the same; with room again it is saved."""
    state = tmp_path / "disk"
    with small_disk(state):
        async with fault_bed(tmp_path, "--state-dir", str(state)) as bed:
            filler = state / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * 4096)

            weigh(bed, 7)
            line = await first(bed).wait_for_event("plan not saved; serving continues")
            await bed.recovers(lambda: served(bed, 7), since=time.monotonic())
            async with (
                aiohttp.ClientSession() as http,
                http.post(
                    f"http://127.0.0.1:{first(bed).admin_port}/api/v1/overrides",
                    json={"instance": "a", "drain": True, "for": "1m", "reason": "x", "by": "y"},
                ) as answer,
            ):
                refused = answer.status, await answer.text()
            filler.unlink()
            room_at = time.monotonic()
            weigh(bed, 9)
            saved = state / "plan.json"
            before = saved.read_bytes() if saved.exists() else b""

            async def is_saved() -> bool:
                return saved.exists() and saved.read_bytes() != before

            seconds = await bed.recovers(is_saved, since=room_at)
            bed.reported("disk full, then room", "a state directory of 512 KiB", seconds, name)

    assert "No space left" in line["reason"]
    assert refused[0] == 400
    assert "make room" in refused[1]


async def test_memory_runs_out(tmp_path: Path, name: str) -> None:
    """A file of 3,000 instances does not fit the limit: clients notice nothing, then it serves."""
    async with fault_bed(tmp_path, "--state-dir", str(tmp_path / "state")) as bed:
        process = psutil.Process(first(bed).pid)
        room = process.memory_info().vms + 4 * 2**20
        process.rlimit(resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        text = bed.fleet.read_text(encoding="utf-8")
        large = json.loads(large_fleets.make_crowd(sites=60, instances=3000, services=20))
        large["envoy"] = {"address": "127.0.0.1", "port": free_port()}
        bed.fleet.write_text(json.dumps(large), encoding="utf-8")
        await bed.keep_on(6.0)
        process_ended = not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        bed.fleet.write_text(text, encoding="utf-8")
        back_at = time.monotonic()
        if process_ended:
            await bed.replicas.start(0)
        else:
            process.rlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        weigh(bed, 5)
        await bed.keep_on(1.0)
        if not process_ended:
            first(bed).signal(signal.SIGHUP)  # fewer instances by far are meant
        seconds = await bed.recovers(lambda: served(bed, 5), since=back_at)
        bed.reported(
            "memory limit", "4 MiB are left, a file of 3,000 instances comes", seconds, name
        )


async def test_the_brokers_stream_is_full(tmp_path: Path, name: str) -> None:
    """No one can renew the lease, so no one leads and the last plan stays; then one leads."""
    async with fault_bed(tmp_path, count=2, nodes=1) as bed:
        await bed.replicas.leader()
        assert bed.nats is not None
        client = await nats.connect(bed.nats.url)
        try:
            stream = client.jetstream()
            config = (await stream.stream_info(f"KV_{BUCKET}")).config
            await stream.update_stream(config, max_bytes=1)
            await bed.serves_without_a_leader()
            await stream.update_stream(config, max_bytes=-1)
            seconds = await bed.recovers(bed.led, since=time.monotonic())
        finally:
            await client.close()
        bed.reported("broker's stream full", "its bucket takes no byte more", seconds, name)
        assert [] == bed.witness.changed


async def test_the_broker_refuses_the_credentials(tmp_path: Path, name: str) -> None:
    """It comes back asking for a password that no replica has, and then without."""
    async with fault_bed(tmp_path, count=2, nodes=1) as bed:
        await bed.replicas.leader()
        assert bed.nats is not None
        await bed.nats.kill(0)
        await bed.nats.start(0, "--user", "someone", "--pass", "else")
        await bed.serves_without_a_leader()
        await bed.nats.kill(0)
        await bed.nats.start(0)
        back_at = time.monotonic()
        seconds = await bed.recovers(bed.led, since=back_at)
        bed.reported("broker refuses credentials", "started again with a password", seconds, name)
        assert [] == bed.witness.changed


async def test_a_replica_consumes_too_slowly(tmp_path: Path, name: str) -> None:
    """A follower stands still while the others report; it comes back with the plan of all."""
    async with fault_bed(tmp_path, count=2, nodes=1) as bed:
        leader = await bed.replicas.leader()
        follower = bed.replicas.running[1 - leader]
        follower.signal(signal.SIGSTOP)
        await bed.keep_on(8.0)
        follower.signal(signal.SIGCONT)
        awake_at = time.monotonic()

        async def whole() -> bool:
            connected = [await bed.replicas.metric(i, "cats_bus_connected") for i in (0, 1)]
            return sum(connected) == 2 and len(await bed.replicas.versions()) == 1

        seconds = await bed.recovers(whole, since=awake_at)
        bed.reported("slow consumer", "SIGSTOP of a follower for eight seconds", seconds, name)
        assert [] == bed.witness.changed


async def test_an_envoy_starts_again_and_again(tmp_path: Path, name: str) -> None:
    """Five times in a row beside a gateway that stays: clients lose nothing, no seat is leaked."""
    async with fault_bed(tmp_path) as bed:
        spare = str(free_port())
        text = bed.fleet.read_text(encoding="utf-8")
        bed.fleet.write_text(
            text.replace("{name: cloud, kind: cloud}",
                         f"{{name: cloud, kind: cloud, listener: {{port: {spare}}}}}"),
            encoding="utf-8",
        )  # fmt: skip
        second = bed.bootstrap.replace("id: e-1", "id: e-2").replace("north", "cloud")
        seconds = 0.0
        for _ in range(5):
            began = time.monotonic()
            envoy = await EnvoyProcess.start(second)
            try:
                seconds = await bed.recovers(lambda: _answers(spare), since=began)
            finally:
                await envoy.kill()

        async def forgotten() -> bool:
            found = await first(bed).get_json("/api/v1/envoys")
            return [each["id"] for each in found["envoys"] if each["id"].startswith("e-")] == [
                "e-1"
            ]

        await bed.recovers(forgotten, since=time.monotonic())
        async with asyncio.timeout(60):  # on a fast machine all five are over before many are sent
            while bed.requests.sent <= 50:  # noqa: ASYNC110 -- it happens elsewhere
                await asyncio.sleep(0.1)
        bed.reported("Envoy restart loop", "kill -9 and start, five times", seconds, name)


async def _answers(port: str) -> bool:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://127.0.0.1:{port}/v1/chat/completions", data=b"{}") as answer,
    ):
        return answer.status == 200


async def test_sensitive_services_alone_overload_the_fleet(tmp_path: Path, name: str) -> None:
    """Nothing tolerant is left to shed: no sensitive request is refused, and calm comes back."""
    async with fault_bed(tmp_path, policy="optimal") as bed:
        bed.loads.update(dict.fromkeys(bed.loads, Load(10.0, 3.0, waiting=60.0)))
        await bed.keep_on(6.0)
        explained = await first(bed).get_json("/api/v1/explain?service=chat&from=north")
        assert explained["drop"] == 0.0
        bed.loads.update(dict.fromkeys(bed.loads, Load(10.0, 0.1)))
        calm_at = time.monotonic()

        async def calm() -> bool:
            found = await first(bed).get_json("/api/v1/overview")
            return all(each["waiting"] == 0 for each in found["instances"])

        seconds = await bed.recovers(calm, since=calm_at)
        bed.reported(
            "overload by sensitive services alone", "60 wait in both instances", seconds, name
        )


async def read_stream(url: str, seconds: float) -> int:
    """Read one answer that goes on for *seconds*, an event each; return how many came."""
    path = f"v1/chat/completions?events={seconds:.0f}&gap=1"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as http,
        http.post(f"{url}/{path}", data=b"{}") as answer,
    ):
        assert answer.status == 200
        return (await answer.read()).count(b"data: ")


async def test_streams_outlast_the_rotation_of_certificates(tmp_path: Path, name: str) -> None:
    """Certificates of both sides are renewed while answers stream: none is cut."""
    lasts = 300.0 if LONG else 8.0
    secrets = secured(tmp_path)
    async with fault_bed(tmp_path, server=secrets.section, tls=secrets.tls, witness=False) as bed:
        url = bed.requests.urls[0]
        streams = [asyncio.create_task(read_stream(url, lasts)) for _ in range(10)]
        began = time.monotonic()
        seconds = 0.0
        while time.monotonic() - began < lasts - 2.0:
            secrets.renew()
            await bed.keep_on(2.0)
            seconds = await bed.recovers(bed.connected, since=time.monotonic())
        events = await asyncio.gather(*streams)
        bed.reported(
            "certificates rotated under streams",
            f"ten streams of {lasts:.0f} s, both sides' pairs renewed every 2 s",
            seconds,
            name,
        )

    assert [lasts] * 10 == events
