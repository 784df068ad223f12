"""Follows what the rules of ``discovery`` want, and hands over what they come to.

It decides nothing: `controlplane.config.merge` says what takes part, and the control plane takes
the merged configuration between two cycles, as it takes a changed file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from controlplane.admin_api.discovery import RuleStatus
from controlplane.config import (
    Discovery,
    DiscoveryRule,
    Found,
    KubernetesApi,
    unserved,
)
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.discovered_store import NOTHING_SAVED, FoundFile, SavedFound
from controlplane.controller.persistence import StateError
from controlplane.runtime.log import Logger
from controlplane.sources.kubernetes.client import ApiClient, ApiError, new_session
from controlplane.sources.kubernetes.finding import Findings, Wanted, find, wants
from controlplane.sources.kubernetes.follow import Follower

JOINED = 0.1
"""Seconds of changes that are taken at once: pods come and go by the dozen."""
IDLE_SHARE = 4.0
"""Times as long as a look took that the next one waits: ten thousand pods, of which some always
come and go, take half a second to look through."""
FIRST_LIST = 30.0
"""Seconds that the first plan waits for the first lists; longer if without them a service would
have no instance at all."""
REMINDER = 5.0
"""Seconds after which a start that still waits is told."""


@dataclass(frozen=True, slots=True)
class _Followed:
    follower: Follower
    task: asyncio.Task[None]


def load_found(directory: Path | None, *, log: Logger) -> SavedFound:
    """Give what was found before a restart; nothing where nothing can be read."""
    if directory is None:
        return NOTHING_SAVED
    try:
        return FoundFile(directory).load() or NOTHING_SAVED
    except StateError as error:
        log.warning(
            "what was discovered cannot be read; asking anew",
            reason=str(error),
            remedy="none needed; look at the file if this happens again",
        )
        return NOTHING_SAVED


class Discovering:
    """Finds instances for a control plane.

    Args:
        control: is told, and asked for its configuration.
        state_dir: where what was found outlives the process.
        saved: what was found before a restart, which *control* has already.
    """

    def __init__(
        self, control: ControlPlane, *, state_dir: Path | None, saved: SavedFound = NOTHING_SAVED
    ) -> None:
        self._control = control
        self._file = None if state_dir is None else FoundFile(state_dir)
        self._saved: tuple[tuple[Found, ...], frozenset[str]] | None = None
        self._findings = {
            name: Findings(tuple(each for each in saved.found if each.rule == name))
            for name in saved.rules
        }
        self._known = set(saved.rules)
        """Rules whose objects are known, or were when they were saved."""
        self._followed: dict[tuple[KubernetesApi, Wanted], _Followed] = {}
        self._failing: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._may_begin = asyncio.Event()
        control.discovery_status = self.status
        control.on_file.append(self._changed.set)
        self._note_beginning()

    async def wait_first(self) -> None:
        """Wait until a plan can be made that knows what there is."""
        loop = asyncio.get_running_loop()
        until = loop.time() + FIRST_LIST
        told = False
        while not self._may_begin.is_set():
            try:
                async with asyncio.timeout(REMINDER):
                    await self._may_begin.wait()
            except TimeoutError:
                alone = unserved(self._control.merged.config)
                if loop.time() >= until and not alone:
                    self._may_begin.set()  # once begun, nothing waits again
                    return
                if not told:
                    told = True
                    self._control.log.warning(
                        "the first plan waits for instances to be discovered",
                        unread=sorted(rule.name for rule in self._rules if self._misses(rule)),
                        instances=len(self._control.merged.config.instances),
                        remedy="see why above, and the rules' selectors; 'cats doctor' asks, too",
                    )
        # What was found is in the configuration before the first cycle begins.
        await asyncio.sleep(0)

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        async with new_session() as session, asyncio.TaskGroup() as group:
            try:
                while True:
                    self._start(session, group)
                    began_at = loop.time()
                    await self._look()
                    elapsed = loop.time() - began_at
                    await self._changed.wait()
                    await asyncio.sleep(max(JOINED, IDLE_SHARE * elapsed))
                    self._changed.clear()
            finally:
                for followed in self._followed.values():
                    followed.task.cancel()
                self._followed.clear()

    def status(self) -> tuple[RuleStatus, ...]:
        """Tell how the rules fare."""
        merged, now = self._control.merged, self._control.clock()
        return tuple(
            RuleStatus(
                name=rule.name,
                kind=rule.kind.value,
                listed=all(each.listed for each in followers) and bool(followers),
                age=_age(followers, now),
                reason="" if (error := _failure(followers)) is None else str(error),
                remedy="" if error is None else error.remedy,
                instances=sum(each.rule == rule.name for each in merged.taken),
                held=sum(each.rule == rule.name for each in merged.held),
                refused=tuple(e for e in self._control.refused if e.rule == rule.name),
            )
            for rule in self._rules
            for followers in [self._followers(rule)]
        )

    @property
    def _discovery(self) -> Discovery | None:
        return self._control.file_config.discovery

    @property
    def _rules(self) -> tuple[DiscoveryRule, ...]:
        return self._discovery.rules if self._discovery is not None else ()

    def _start(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        """Follow what is wanted now, and nothing else; what is wanted still goes on."""
        config = self._control.file_config
        discovery = config.discovery
        wanted: dict[tuple[KubernetesApi, Wanted], None] = {}
        if discovery is not None:
            for rule in discovery.rules:
                wanted |= {(discovery.api, each): None for each in wants(config, rule)}
        for key in [key for key in self._followed if key not in wanted]:
            self._followed.pop(key).task.cancel()
        for api, each in wanted:
            if (api, each) in self._followed:
                continue
            follower = Follower(
                each,
                ApiClient(api, session),
                on_change=self._changed.set,
                count=_counted(self._control, each),
                clock=self._control.clock,
                log=self._control.log,
            )
            task = group.create_task(follower.run(), name=f"follow {each.resource.name}")
            self._followed[api, each] = _Followed(follower, task)

    async def _look(self) -> None:
        config = self._control.file_config
        self._tell_failures()
        for rule in self._rules:
            if self._misses(rule):
                continue
            objects, *looked_up = self._followers(rule)
            self._findings[rule.name] = await asyncio.to_thread(
                find,
                config,
                rule,
                objects.objects.values(),
                [item for each in looked_up for item in each.objects.values()],
            )
            self._known.add(rule.name)
        names = {rule.name for rule in self._rules}
        self._findings = {name: each for name, each in self._findings.items() if name in names}
        self._known &= names
        found = tuple(each for item in self._findings.values() for each in item.found)
        refused = tuple(each for item in self._findings.values() for each in item.refused)
        self._control.receive_found(found, refused)
        self._note_beginning()
        await self._save(found)

    def _note_beginning(self) -> None:
        """Let the first plan be made once all is known, unless that comes to nothing at all.

        Envoys may hold what an earlier process gave them; an empty plan would wipe it.
        """
        known = all(rule.name in self._known for rule in self._rules)
        if self._discovery is None or (known and self._control.merged.config.instances):
            self._may_begin.set()

    def _followers(self, rule: DiscoveryRule) -> list[Follower]:
        """Give who follows what *rule* wants; nobody until all of it is followed."""
        discovery = self._discovery
        if discovery is None:
            return []
        keys = [(discovery.api, each) for each in wants(self._control.file_config, rule)]
        if any(key not in self._followed for key in keys):
            return []
        return [self._followed[key].follower for key in keys]

    def _misses(self, rule: DiscoveryRule) -> bool:
        followers = self._followers(rule)
        return not followers or not all(each.listed for each in followers)

    def _tell_failures(self) -> None:
        failing: dict[str, str] = {}
        for rule in self._rules:
            error = _failure(self._followers(rule))
            if error is None:
                continue
            failing[rule.name] = str(error)
            if rule.name not in self._failing:
                self._control.teller.tell_discovery_fault(
                    "instances cannot be discovered; those known serve on",
                    rule=rule.name, reason=str(error), remedy=error.remedy,
                )  # fmt: skip
        for name in self._failing.keys() - failing.keys():
            self._control.teller.tell_discovery("instances can be discovered again", rule=name)
        self._failing = failing

    async def _save(self, found: tuple[Found, ...]) -> None:
        state = found, frozenset(self._known)
        if self._file is None or self._discovery is None or state == self._saved:
            return
        if not self._known:
            return
        # What is held is worth as much after a restart as before it.
        held = tuple(each for each in self._control.merged.held if each not in found and each.rule)
        try:
            await asyncio.to_thread(self._file.save, (*found, *held), rules=sorted(self._known))
        except OSError as error:
            self._control.metrics.state_saves.labels("failed").inc()
            self._control.log.warning(
                "what was discovered is not saved; serving goes on",
                file=str(self._file.path),
                reason=error.strerror or str(error),
                remedy="make room in --state-dir, and see that it can be written",
            )
        self._saved = state


def _counted(control: ControlPlane, wanted: Wanted) -> Callable[[str, str], None]:
    def count(verb: str, outcome: str) -> None:
        control.metrics.discovery_requests.labels(wanted.resource.name, verb, outcome).inc()

    return count


def _failure(followers: list[Follower]) -> ApiError | None:
    return next((each.failure for each in followers if each.failure is not None), None)


def _age(followers: list[Follower], now: float) -> float | None:
    heard = [each.confirmed_at for each in followers]
    known = [at for at in heard if at is not None]
    return max(0.0, now - min(known)) if known and len(known) == len(heard) else None
