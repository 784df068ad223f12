"""The main job end to end, to watch: ``make demo``.

Starts emulated instances, ``cats serve`` and a real Envoy for each client site from
``cats bootstrap``, sends traffic of two services through them, and says a story: a training job
takes part of the near edge, an edge is killed, the control plane is killed and started again.
At the end it says where requests went in each phase, and which of its claims held.

Everything it starts ends with it, whichever way it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp

from controlplane.resources.access_log_fields import REQUEST_ID
from testbed.demo.records import Record, summarise
from testbed.demo.screen import Scene
from testbed.demo.script import PHASES, Chapter, Phase, Weights
from testbed.demo.traffic import Traffic
from testbed.demo.world import World
from testbed.fakes.keda import KedaClient
from testbed.fakes.webhook import WebhookReceiver
from testbed.processes.children import Child, Children
from testbed.processes.envoys import EnvoyProcess
from testbed.processes.ports import free_ports

LIVE_PERIOD = 0.5
"""Seconds between two pictures of the live view."""
WINDOW = 5.0
"""Seconds that the live figures look back."""
START_WITHIN = 90.0
POLL_PERIOD = 1.0
EXPLAIN_PERIOD = 10.0
"""Seconds between two requests of the access log that are explained."""
LEAST_PHASE = 2.0
ANSWER_WITHIN = 5.0
"""Seconds that the last requests have to be answered."""


class DemoError(RuntimeError):
    """Something did not start or did not answer; the message says what."""


class Demo:
    """One run of the story."""

    def __init__(self, world: World, directory: Path, *, seed: int) -> None:
        self.world = world
        self.interrupted = asyncio.Event()
        """Set once the demo is to end."""
        self.chapters: list[Chapter] = []
        self.scene = Scene(world)
        self._directory = directory
        self._xds, self._admin, *envoy_admins = free_ports(2 + len(world.listeners))
        self._envoy_admins = dict(zip(world.listeners, envoy_admins, strict=True))
        self.scene.admin = f"http://127.0.0.1:{self._admin}/"
        self._access_log = directory / "access.log"
        self._explaining: asyncio.Task[None] | None = None
        self._children = Children(directory)
        self._traffic = Traffic(world.streams, seed=seed)
        self._envoys: dict[str, EnvoyProcess] = {}
        self._instances: dict[str, Child] = {}
        self._control_plane: Child | None = None
        self._client: aiohttp.ClientSession | None = None
        self._keda: KedaClient | None = None
        self._waking: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._children)
        try:
            if not await self.until_interrupted(self._start()):
                self._children.kill()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._explaining is not None:  # ends by itself, within seconds
            await asyncio.gather(self._explaining, return_exceptions=True)
        await self._stack.aclose()

    async def _start(self) -> None:
        self._client = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0))
        )
        self._keda = await self._stack.enter_async_context(KedaClient(f"127.0.0.1:{self._xds}"))
        (self._directory / "fleet.yaml").write_text(self.world.fleet_yaml(self._access_log))
        awake = [name for name in self.world.instances if name not in self.world.asleep]
        await asyncio.gather(*map(self._start_instance, awake))
        if self.world.asleep:
            self._stack.push_async_callback(self._end_starts)
            receiver = WebhookReceiver(self._wake, port=self.world.webhook_port)
            self.scene.calls = (await self._stack.enter_async_context(receiver)).calls
        await self._start_control_plane()
        await asyncio.gather(*map(self._start_envoy, self.world.listeners))

    # What it starts.

    async def _start_instance(self, name: str) -> None:
        settings = self.world.instances[name]
        curve = settings.curve
        distances = [f"--rtt={site}={rtt}" for site, rtt in settings.rtt.items()]
        child = self._instances[name] = await self._children.start(
            name,
            [
                *(sys.executable, "-m", "testbed.fakes.instances", "--port", str(settings.port)),
                *("--grpc-port", str(settings.grpc_port)),
                *("--model", settings.model, "--slots", str(curve.slots)),
                *(f"--serves={name}" for name in settings.serves),
                f"--base={curve.base}",
                f"--crowding={curve.crowding}",
                *distances,
            ],
        )
        await self._wait_for(f"http://127.0.0.1:{settings.port}/health", child)

    async def _wake(self, name: str) -> None:
        """Start an instance that is asleep some seconds after its webhook was called."""

        async def start() -> None:
            await asyncio.sleep(self.world.asleep[name])
            await self._start_instance(name)
            self.scene.woken.add(name)

        if name not in self._instances:
            task = asyncio.create_task(start(), name=f"start {name}")
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def _end_starts(self) -> None:
        for task in self._waking:
            task.cancel()
        await asyncio.gather(*self._waking, return_exceptions=True)

    async def _start_control_plane(self) -> None:
        child = self._control_plane = await self._children.start(
            "control-plane",
            [
                *(sys.executable, "-m", "controlplane", "serve"),
                *("-c", str(self._directory / "fleet.yaml")),
                *("--xds", f"127.0.0.1:{self._xds}", "--admin", f"127.0.0.1:{self._admin}"),
                *("--state-dir", str(self._directory / "state")),
            ],
        )
        await self._wait_for(f"{self.scene.admin}readyz", child)

    async def _start_envoy(self, site: str) -> None:
        bootstrap = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane", "bootstrap"),
            *("-c", str(self._directory / "fleet.yaml"), "--site", site, "--id", f"{site}-1"),
            *("--xds", f"127.0.0.1:{self._xds}", "--admin-port", str(self._envoy_admins[site])),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        text, said = await bootstrap.communicate()
        if bootstrap.returncode != 0:
            raise DemoError(f"cats bootstrap for {site} failed: {said.decode().strip()}")
        envoy = self._envoys[site] = await EnvoyProcess.start(text.decode())
        await self._stack.enter_async_context(envoy)

    async def _wait_for(self, url: str, child: Child) -> None:
        assert self._client is not None
        loop = asyncio.get_running_loop()
        end = loop.time() + START_WITHIN
        while loop.time() < end:
            if not child.running:
                raise DemoError(f"{child.name} ended while starting:\n{child.last_lines()}")
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._client.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
        raise DemoError(f"{child.name} did not answer {url} in time:\n{child.last_lines()}")

    # The story.

    def interrupt(self) -> None:
        """End the demo in order; called again, kill what has not ended yet."""
        if self.interrupted.is_set():
            self._children.kill()
            for envoy in self._envoys.values():
                envoy.send_kill()
        self.interrupted.set()

    async def until_interrupted(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run *work*, cancelled on interruption; return whether it ended by itself."""
        task = asyncio.create_task(work)
        interruption = asyncio.create_task(self.interrupted.wait())
        try:
            await asyncio.wait({task, interruption}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            interruption.cancel()
            if not task.done():
                task.cancel()
                # What fails while it is cancelled fails because it is cancelled.
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled() or (self.interrupted.is_set() and task.exception() is not None):
            return False
        task.result()
        return True

    async def play(self, length: float, *, go_on: bool, phases: Sequence[Phase] = PHASES) -> None:
        """Send traffic and play *phases* in *length* seconds; with *go_on* until interrupted."""
        began = asyncio.get_running_loop().time()
        async with self._traffic:
            watching = asyncio.create_task(self._watch(began), name="watch")
            try:
                await self.until_interrupted(
                    self._play_all(began, length, go_on=go_on, phases=phases)
                )
                await self._traffic.finish(within=ANSWER_WITHIN)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _play_all(
        self, began: float, length: float, *, go_on: bool, phases: Sequence[Phase]
    ) -> None:
        due = began
        for phase in phases:
            due += phase.part * length
            await self._play(phase, due)
        if go_on:
            await self._recover()
            await self.interrupted.wait()

    async def _play(self, phase: Phase, end: float) -> None:
        """Play one phase until *end*; a slow start of the control plane leaves it no less than 2 s.

        A phase lasts until the next one's deed is done, so no request falls between two.
        """
        loop = asyncio.get_running_loop()
        weights = await self._read_weights()
        if self.chapters:
            self.chapters[-1].weights_at_end = weights
        await self._act(phase)
        now = loop.time()
        if self.chapters:
            self.chapters[-1].ended_at = now
        end = max(end, now + LEAST_PHASE)
        if phase.name == "control plane dead":
            weights = await self._read_weights()  # its last push may have come after the first look
        chapter = Chapter(phase, now, end - now, weights_at_start=weights)
        self.chapters.append(chapter)
        self.scene.title = f"{phase.name}: {phase.title}"
        if phase.name == "control plane back":
            await self._wait_connected()
            chapter.weights_at_end = await self._read_weights()
        while (left := end - loop.time()) > 0:
            self.scene.left = left
            await asyncio.sleep(min(left, LIVE_PERIOD))
        if phase is PHASES[-1]:
            chapter.ended_at = loop.time()

    async def _act(self, phase: Phase) -> None:
        match phase.name:
            case "training":
                await self._emulate(self.world.trains, training=self.world.training)
            case "after":
                await self._emulate(self.world.trains, training=0.0)
            case "edge dead":
                await self._instances[self.world.dies].kill()
                self.scene.dead = frozenset({self.world.dies})
            case "control plane dead":
                assert self._control_plane is not None
                await self._control_plane.kill()
            case "control plane back":
                await self._start_control_plane()

    async def _recover(self) -> None:
        await self._start_instance(self.world.dies)
        self.scene.dead = frozenset()
        self.scene.title, self.scene.left = "the script has ended; traffic goes on", None

    async def _emulate(self, instance: str, **switches: object) -> None:
        assert self._client is not None
        port = self.world.instances[instance].port
        async with self._client.post(f"http://127.0.0.1:{port}/emulation", json=switches) as answer:
            answer.raise_for_status()

    async def _read_weights(self) -> Weights:
        """Ask every Envoy for what it steers by: the endpoints of the first priority."""
        return {
            site: {
                name: {each.address: each.weight for each in endpoints if each.priority == 0}
                for name, endpoints in (await envoy.clusters()).items()
                if name in self.world.services
            }
            for site, envoy in self._envoys.items()
        }

    async def _wait_connected(self) -> None:
        for envoy in self._envoys.values():
            await envoy.wait_for_stat("control_plane.connected_state", lambda value: value == 1)

    async def count_rejected(self) -> int:
        """Count the configurations that the Envoys rejected."""
        counted = 0
        for envoy in self._envoys.values():
            counted += sum((await envoy.stats("update_rejected")).values())
        return counted

    @property
    def records(self) -> list[Record]:
        """Return every request so far."""
        return list(self._traffic.records)

    # What is seen meanwhile.

    async def _watch(self, began: float) -> None:
        loop = asyncio.get_running_loop()
        polled, explained = -POLL_PERIOD, 0.0
        while True:
            now = loop.time()
            self.scene.elapsed = now - began
            recent = list(self._traffic.since(now - WINDOW))
            self.scene.seen = {
                (stream.service, stream.site): summarise(
                    [
                        record
                        for record in recent
                        if (record.service, record.site) == (stream.service, stream.site)
                    ]
                )
                for stream in self.world.streams
            }
            if now - polled >= POLL_PERIOD:
                polled = now
                await self._poll()
            if self.world.logs and now - explained >= EXPLAIN_PERIOD:
                explained = now
                self._explaining = asyncio.create_task(self._explain(), name="explain")
            await asyncio.sleep(LIVE_PERIOD)

    async def _poll(self) -> None:
        assert self._keda is not None
        self.scene.scaling = {key: await self._keda.ask(*key) for key in self.world.scaled}
        try:
            self.scene.plan = await self._ask("api/v1/plan")
            self.scene.fleet = await self._ask("api/v1/fleet")
            self.scene.reasons = {
                service: await self._ask(f"api/v1/explain?service={service}&from={self.world.near}")
                for service in self.world.services
            }
        except (aiohttp.ClientError, TimeoutError):
            self.scene.control_plane = False
        else:
            self.scene.control_plane = True

    async def _explain(self) -> None:
        """Have the newest request of the last service explained, as an operator would."""
        lines = await asyncio.to_thread(_log_lines, self._access_log)
        own = [each for each in lines if each.get("cats.service") == self.world.services[-1]]
        if not own:
            return
        name = str(own[-1][REQUEST_ID])
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "controlplane", "explain", "--request", name),
            *("--log", str(self._access_log), "--admin", self.scene.admin),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        said, _ = await command.communicate()
        if command.returncode == 0:
            words = said.decode().partition("\n\n")[0].splitlines()
            self.scene.explained = [
                f"cats explain --request {name} --log {self._access_log.name}",
                *words,
            ]

    async def _ask(self, path: str) -> Any:
        assert self._client is not None
        async with self._client.get(self.scene.admin + path) as answer:
            answer.raise_for_status()
            return await answer.json()

    def last_words(self) -> str:
        """Return the end of the control plane's log."""
        return "" if self._control_plane is None else self._control_plane.last_lines(40)


def _log_lines(file: Path) -> list[dict[str, Any]]:
    """Return the whole lines of an access log."""
    if not file.exists():
        return []
    *lines, _ = file.read_text().split("\n")
    return [json.loads(line) for line in lines]
