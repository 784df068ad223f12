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

from controlplane.config import (
    Config,
    Conflict,
    DiscoveredInstance,
    Discovery,
    DiscoveryRule,
    KubernetesApi,
    KubernetesCluster,
    ObjectRef,
    RejectedInstance,
    Site,
    unserved,
)
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.discovered_store import NOTHING_SAVED, DiscoveredStore, SavedInstances
from controlplane.controller.discovery_status import RuleStatus
from controlplane.controller.rejection_events import OF_FILE, RejectionEvents
from controlplane.controller.state_file import StateError
from controlplane.errors import Fault
from controlplane.runtime.files import keep_aside
from controlplane.runtime.log import Logger
from controlplane.sources.kubernetes.client import ApiClient, ApiError, new_session
from controlplane.sources.kubernetes.mapping import Mapped, Mapper
from controlplane.sources.kubernetes.reflector import Reflector
from controlplane.sources.kubernetes.watches import Watch, watches

JOINED = 0.1
"""Seconds of changes that are taken at once: pods come and go by the dozen."""
IDLE_SHARE = 4.0
"""Times as long as a look took that passes from its end to the next one, so that pods that come and
go all the time take a fifth of a core at most."""
LONGEST_PAUSE = 0.5
"""Seconds that changes wait at most."""
SAVE_PERIOD = 5.0
"""Seconds between two times that what was found is written."""
FIRST_LIST = 30.0
"""Seconds that the first plan waits for the first lists; longer if without them a service would
have no instance at all."""
MAX_FILE_EVENTS = 10
"""Errors of a rejected file that become Events; the log has them all."""
REMINDER = 5.0
"""Seconds after which a start that still waits is reported."""


@dataclass(frozen=True, slots=True)
class _Key:
    """What is followed once, however many rules want it."""

    name: str
    """Of the cluster; empty for the one of ``discovery.api``."""
    cluster: KubernetesApi | KubernetesCluster
    wanted: Watch


@dataclass(frozen=True, slots=True)
class _Followed:
    follower: Reflector
    task: asyncio.Task[None]
    client: ApiClient


def load_discovered(directory: Path | None, *, log: Logger) -> SavedInstances:
    """Return what was found before a restart; nothing where nothing can be read."""
    if directory is None:
        return NOTHING_SAVED
    store = DiscoveredStore(directory)
    try:
        saved = store.load() or NOTHING_SAVED
    except StateError as error:
        log.warning(
            "saved discovered instances unreadable; discovering again",
            reason=str(error),
            remedy="none needed; look at the file if this happens again",
        )
        return NOTHING_SAVED
    if saved.unread:
        log.warning(
            "saved discovered instances partly unreadable; the rest restored",
            reason=list(saved.unread[:20]),
            restored=len(saved.found),
            file=keep_aside(store.path),
            remedy="none needed; they are discovered again",
        )
    return saved


class InstanceDiscovery:
    """Finds instances for a control plane.

    Args:
        control: is reported, and asked for its configuration.
        state_dir: where what was found outlives the process.
        saved: what was found before a restart, which *control* has already.
    """

    def __init__(
        self,
        control: ControlPlane,
        *,
        state_dir: Path | None,
        saved: SavedInstances = NOTHING_SAVED,
    ) -> None:
        self._control = control
        self._configuration = control.configuration
        self._file = None if state_dir is None else DiscoveredStore(state_dir)
        self._saved: tuple[tuple[DiscoveredInstance, ...], frozenset[str]] | None = None
        self._findings = {
            name: Mapped(tuple(each for each in saved.found if each.rule == name))
            for name in saved.rules
        }
        self._known = set(saved.rules)
        """Rules whose objects are known, or were when they were saved."""
        self._mappers: dict[str, tuple[DiscoveryRule, tuple[Site, ...], Mapper]] = {}
        self._followed: dict[_Key, _Followed] = {}
        self._found = saved.found
        self._to_save = asyncio.Event()
        self._events = RejectionEvents(
            self._client_of, unix_time=control.unix_time, log=control.log
        )
        self._session: aiohttp.ClientSession | None = None
        self._failing: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._may_begin = asyncio.Event()
        control.configuration.discovery_status = self.status
        control.configuration.rejected.subscribe(self._note_rejected_file)
        control.configuration.file_changed.subscribe(lambda _: self._changed.set())
        self._note_beginning()

    async def wait_first(self) -> None:
        """Wait until a plan can be made that knows what there is."""
        loop = asyncio.get_running_loop()
        until = loop.time() + FIRST_LIST
        reported = False
        while not self._may_begin.is_set():
            try:
                async with asyncio.timeout(REMINDER):
                    await self._may_begin.wait()
            except TimeoutError:
                alone = unserved(self._configuration.merged.config)
                if loop.time() >= until and not alone:
                    self._may_begin.set()  # once begun, nothing waits again
                    return
                if not reported:
                    reported = True
                    self._control.log.warning(
                        "first plan delayed until instances are discovered",
                        unread=sorted(rule.name for rule in self._rules if self._misses(rule)),
                        instances=len(self._configuration.merged.config.instances),
                        remedy="see why above, and the rules' selectors; 'cats doctor' asks, too",
                    )
        # What was found is in the configuration before the first cycle begins.
        await asyncio.sleep(0)

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        async with new_session() as session, asyncio.TaskGroup() as group:
            self._session = session
            try:
                group.create_task(self._keep_saved(), name="save discovered")
                group.create_task(self._events.run(), name="write Events")
                while True:
                    self._start(session, group)
                    self._changed.clear()
                    began_at = loop.time()
                    await self._look()
                    ended_at = loop.time()
                    await self._changed.wait()
                    pause = min(LONGEST_PAUSE, IDLE_SHARE * (ended_at - began_at))
                    await asyncio.sleep(max(JOINED, ended_at + pause - loop.time()))
            finally:
                self._write()
                for followed in self._followed.values():
                    followed.task.cancel()
                self._followed.clear()

    def status(self) -> tuple[RuleStatus, ...]:
        """Return how the rules fare."""
        merged, now = self._configuration.merged, self._control.clock()
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
                refused=tuple(e for e in self._configuration.refused if e.rule == rule.name),
                cluster=rule.cluster or "",
            )
            for rule in self._rules
            for followers in [self._followers(rule)]
        )

    @property
    def _discovery(self) -> Discovery | None:
        return self._configuration.file_config.discovery

    @property
    def _rules(self) -> tuple[DiscoveryRule, ...]:
        return self._discovery.rules if self._discovery is not None else ()

    def _start(self, session: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        """Follow what is wanted now, and nothing else; what is wanted still goes on."""
        config = self._configuration.file_config
        discovery = config.discovery
        wanted: dict[_Key, None] = {}
        if discovery is not None:
            for rule in discovery.rules:
                wanted |= dict.fromkeys(_keys(config, rule))
        for key in [key for key in self._followed if key not in wanted]:
            self._followed.pop(key).task.cancel()
        for key in wanted:
            if key in self._followed:
                continue
            client = ApiClient(key.cluster, session)
            follower = Reflector(
                key.wanted,
                client,
                on_change=self._changed.set,
                count=_counted(self._control, key),
                clock=self._control.clock,
                log=self._control.log.bind(cluster=key.name) if key.name else self._control.log,
            )
            name = f"follow {key.wanted.resource.name} {key.name}".rstrip()
            task = group.create_task(follower.run(), name=name)
            self._followed[key] = _Followed(follower, task, client)

    async def _look(self) -> None:
        config = self._configuration.file_config
        self._tell_failures()
        for rule in self._rules:
            if self._misses(rule):
                continue
            count = len(watches(config, rule).objects)
            followers = self._followers(rule)
            # Copies, since objects come and go while the thread reads them.
            objects, looked_up = (
                [item for each in part for item in each.objects.values()]
                for part in (followers[:count], followers[count:])
            )
            mapper = self._mapper(config, rule)
            self._findings[rule.name] = await asyncio.to_thread(mapper.map, objects, looked_up)
            self._known.add(rule.name)
        names = {rule.name for rule in self._rules}
        self._findings = {name: each for name, each in self._findings.items() if name in names}
        self._known &= names
        found = tuple(each for item in self._findings.values() for each in item.found)
        refused = tuple(each for item in self._findings.values() for each in item.refused)
        self._configuration.receive_discovered(found, refused)
        if self._discovery is not None and self._discovery.events:
            self._events.note(self._configuration.refused)
        self._note_beginning()
        self._found = found
        self._to_save.set()

    def _mapper(self, config: Config, rule: DiscoveryRule) -> Mapper:
        """Return what makes instances by *rule*, which keeps what it read."""
        known = self._mappers.get(rule.name)
        if known is None or known[:2] != (rule, config.sites):
            known = rule, config.sites, Mapper(config, rule)
            self._mappers[rule.name] = known
        return known[2]

    def _note_beginning(self) -> None:
        """Let the first plan be made once all is known, unless that comes to nothing at all.

        Envoys may hold what an earlier process gave them; an empty plan would wipe it.
        """
        known = all(rule.name in self._known for rule in self._rules)
        if self._discovery is None or (known and self._configuration.merged.config.instances):
            self._may_begin.set()

    def _followers(self, rule: DiscoveryRule) -> list[Reflector]:
        """Return who follows what *rule* wants; no one until all of it is followed."""
        keys = _keys(self._configuration.file_config, rule)
        if any(key not in self._followed for key in keys):
            return []
        return [self._followed[key].follower for key in keys]

    def _note_rejected_file(self, faults: tuple[Fault, ...]) -> None:
        """Have Events written on the ConfigMap for the errors of a file that is rejected."""
        discovery = self._discovery
        if discovery is None or not discovery.events or discovery.config_map is None:
            return
        namespace, _, name = discovery.config_map.partition("/")
        about = ObjectRef("v1", "ConfigMap", namespace, name)
        self._events.note(
            RejectedInstance(OF_FILE, fault.file, Conflict.OBJECT, str(fault), about)
            for fault in faults[:MAX_FILE_EVENTS]
        )

    def _client_of(self, rule_name: str) -> ApiClient | None:
        if rule_name == OF_FILE:
            discovery, session = self._discovery, self._session
            return ApiClient(discovery.api, session) if discovery and session else None
        for rule in self._rules:
            if rule.name == rule_name:
                for key in _keys(self._configuration.file_config, rule):
                    if key in self._followed:
                        return self._followed[key].client
        return None

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
                self._control.notifier.report_fault(
                    "discovery failed; known instances stay in use",
                    rule=rule.name, reason=str(error), remedy=error.remedy,
                    **({"cluster": rule.cluster} if rule.cluster else {}),
                )  # fmt: skip
        for name in self._failing.keys() - failing.keys():
            self._control.notifier.report("discovery restored", rule=name)
        self._failing = failing

    async def _keep_saved(self) -> None:
        while True:
            await self._to_save.wait()
            self._to_save.clear()
            await asyncio.to_thread(self._write)
            await asyncio.sleep(SAVE_PERIOD)

    def _write(self) -> None:
        """Save what was found, unless it is saved already; blocks."""
        state = self._found, frozenset(self._known)
        if self._file is None or self._discovery is None or state == self._saved:
            return
        if not self._known:
            return
        names = {each.instance.name for each in self._found}
        # What is held is worth as much after a restart as before it.
        held = tuple(
            each
            for each in self._configuration.merged.held
            if each.rule and each.instance.name not in names
        )
        try:
            self._file.save((*self._found, *held), rules=sorted(self._known))
        except OSError as error:
            self._control.metrics.state_saves.labels("failed").inc()
            self._control.log.warning(
                "discovered instances not saved; serving continues",
                file=str(self._file.path),
                reason=error.strerror or str(error),
                remedy="make room in --state-dir, and see that it can be written",
            )
        self._saved = state


def _keys(config: Config, rule: DiscoveryRule) -> list[_Key]:
    """Return what has to be followed for *rule*: its objects first, then what it looks up."""
    if config.discovery is None:
        return []
    name = rule.cluster or ""
    cluster = config.discovery.cluster(name)
    return [_Key(name, cluster, each) for each in watches(config, rule)]


def _counted(control: ControlPlane, key: _Key) -> Callable[[str, str], None]:
    def count(verb: str, outcome: str) -> None:
        labels = (key.name, key.wanted.resource.name, verb, outcome)
        control.metrics.discovery_requests.labels(*labels).inc()

    return count


def _failure(followers: list[Reflector]) -> ApiError | None:
    return next((each.failure for each in followers if each.failure is not None), None)


def _age(followers: list[Reflector], now: float) -> float | None:
    heard = [each.confirmed_at for each in followers]
    known = [at for at in heard if at is not None]
    return max(0.0, now - min(known)) if known and len(known) == len(heard) else None
