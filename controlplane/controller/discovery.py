"""Follows what the rules of ``discovery`` want, and hands over what they come to.

It decides nothing: `controlplane.config.merge` says what takes part, and the control plane takes
the merged configuration between two cycles, as it takes a changed file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp

from controlplane.config import (
    Config,
    Conflict,
    DiscoveredMatch,
    Discovery,
    DiscoveryRule,
    ObjectRef,
    RejectedInstance,
    Site,
    unserved,
)
from controlplane.config.merge import route_sources
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.discovered_store import NOTHING_SAVED, SavedInstances
from controlplane.controller.discovery_saving import DiscoverySaver
from controlplane.controller.discovery_status import RuleStatus
from controlplane.controller.followers import (
    DiscoverySource,
    Followers,
    age_of,
    failure_of,
    sources_of,
)
from controlplane.controller.rejection_events import OF_FILE, RejectionEvents
from controlplane.errors import Fault
from controlplane.sources.kubernetes.client import ApiClient, new_session
from controlplane.sources.kubernetes.mapping import Mapped, Mapper
from controlplane.sources.kubernetes.matches import map_routes
from controlplane.sources.kubernetes.reflector import Reflector
from controlplane.sources.kubernetes.watches import watches

JOINED = 0.1
"""Seconds of changes that are taken at once: pods come and go by the dozen."""
IDLE_SHARE = 4.0
"""Times as long as a look took that passes from its end to the next one, so that pods that come and
go all the time take a fifth of a core at most."""
LONGEST_PAUSE = 0.5
"""Seconds that changes wait at most."""
FIRST_LIST = 30.0
"""Seconds that the first plan waits for the first lists; longer if without them a service would
have no instance at all."""
MAX_FILE_EVENTS = 10
"""Errors of a rejected file that become Events; the log has them all."""
REMINDER = 5.0
"""Seconds after which a start that still waits is reported."""


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
        self._sources_of: tuple[Config, tuple[DiscoverySource, ...]] | None = None
        self._findings = {
            name: Mapped(tuple(each for each in saved.found if each.rule == name))
            for name in saved.rules
        }
        self._routes: dict[str, tuple[Sequence[DiscoveredMatch], Sequence[RejectedInstance]]] = {
            name: ([each for each in saved.matches if each.source == name], ())
            for name in saved.rules
        }
        self._known = set(saved.rules)
        """Sources whose objects are known, or were when they were saved."""
        self._mappers: dict[str, tuple[DiscoveryRule, tuple[Site, ...], Mapper]] = {}
        self._saver = DiscoverySaver(control, saved, state_dir=state_dir)
        self._events = RejectionEvents(
            self._client_of, unix_time=control.unix_time, log=control.log
        )
        self._session: aiohttp.ClientSession | None = None
        self._failing: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._followers = Followers(control, on_change=self._changed.set)
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
                        unread=sorted(each.name for each in self._sources if self._misses(each)),
                        instances=len(self._configuration.merged.config.instances),
                        remedy="see the reasons above, and check the rules' selectors",
                    )
        # What was found is in the configuration before the first cycle begins.
        await asyncio.sleep(0)

    async def run(self) -> None:
        """Follow until cancelled."""
        loop = asyncio.get_running_loop()
        async with new_session() as session, asyncio.TaskGroup() as group:
            self._session = session
            try:
                group.create_task(self._saver.run(), name="save discovered")
                group.create_task(self._events.run(), name="write Events")
                while True:
                    keys = (key for each in self._sources for key in each.keys)
                    self._followers.follow(keys, session=session, group=group)
                    self._changed.clear()
                    began_at = loop.time()
                    await self._look()
                    ended_at = loop.time()
                    await self._changed.wait()
                    pause = min(LONGEST_PAUSE, IDLE_SHARE * (ended_at - began_at))
                    await asyncio.sleep(max(JOINED, ended_at + pause - loop.time()))
            finally:
                self._saver.write()
                self._followers.stop()

    def status(self) -> tuple[RuleStatus, ...]:
        """Return how the rules fare."""
        merged, now = self._configuration.merged, self._control.clock()
        return tuple(
            RuleStatus(
                name=source.name,
                kind=source.kind,
                listed=all(each.listed for each in followers) and bool(followers),
                age=age_of(followers, now),
                reason="" if (error := failure_of(followers)) is None else str(error),
                remedy="" if error is None else error.remedy,
                instances=sum(each.rule == source.name for each in merged.taken),
                held=sum(each.rule == source.name for each in merged.held),
                matches=sum(each.source == source.name for each in merged.matches),
                refused=tuple(e for e in self._configuration.refused if e.rule == source.name),
                cluster=source.cluster,
            )
            for source in self._sources
            for followers in [self._followers.of(source)]
        )

    @property
    def _discovery(self) -> Discovery | None:
        return self._configuration.file_config.discovery

    @property
    def _rules(self) -> tuple[DiscoveryRule, ...]:
        return self._discovery.rules if self._discovery is not None else ()

    @property
    def _sources(self) -> tuple[DiscoverySource, ...]:
        config = self._configuration.file_config
        if self._sources_of is None or self._sources_of[0] is not config:
            self._sources_of = config, sources_of(config)
        return self._sources_of[1]

    async def _look(self) -> None:
        config, sources = self._configuration.file_config, self._sources
        self._report_failures()
        rules = {rule.name: rule for rule in self._rules}
        for source in sources:
            if self._misses(source):
                continue
            if source.name in rules:
                await self._find(config, rules[source.name], self._followers.of(source))
            self._known.add(source.name)
        self._find_matches(config, {each.name: each for each in sources})
        names = {each.name for each in sources}
        self._findings = {name: each for name, each in self._findings.items() if name in names}
        self._known &= names
        found = tuple(each for item in self._findings.values() for each in item.found)
        refused = [each for item in self._findings.values() for each in item.refused]
        refused += [each for _, its in self._routes.values() for each in its]
        matches = tuple(each for its, _ in self._routes.values() for each in its)
        self._configuration.receive_discovered(found, refused, matches)
        if self._discovery is not None and self._discovery.events:
            self._events.note(self._configuration.refused)
        self._note_beginning()
        self._saver.note(found, matches, rules=self._known)

    async def _find(
        self, config: Config, rule: DiscoveryRule, followers: Sequence[Reflector]
    ) -> None:
        count = len(watches(config, rule).objects)
        # Copies, since objects come and go while the thread reads them.
        objects, looked_up = (
            [item for each in part for item in each.objects.values()]
            for part in (followers[:count], followers[count:])
        )
        mapper = self._mapper(config, rule)
        self._findings[rule.name] = await asyncio.to_thread(mapper.map, objects, looked_up)

    def _find_matches(self, config: Config, sources: Mapping[str, DiscoverySource]) -> None:
        before, self._routes = self._routes, {}
        for name, service, route_source in route_sources(config):
            source = sources.get(name)
            if source is None or self._misses(source):
                self._routes[name] = before.get(name, ((), ()))
                continue
            routes = [item for each in self._followers.of(source) for item in each.objects.values()]
            self._routes[name] = map_routes(config, name, service.name, route_source, routes)

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
        known = all(each.name in self._known for each in self._sources)
        if self._discovery is None or (known and self._configuration.merged.config.instances):
            self._may_begin.set()

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
        for source in self._sources:
            if source.name == rule_name:
                return self._followers.client(source)
        return None

    def _misses(self, source: DiscoverySource) -> bool:
        followers = self._followers.of(source)
        return not followers or not all(each.listed for each in followers)

    def _report_failures(self) -> None:
        failing: dict[str, str] = {}
        for source in self._sources:
            error = failure_of(self._followers.of(source))
            if error is None:
                continue
            failing[source.name] = str(error)
            if source.name not in self._failing:
                self._control.notifier.reporter.report_fault(
                    "discovery failed; known instances stay in use",
                    rule=source.name, reason=str(error), remedy=error.remedy,
                    **({"cluster": source.cluster} if source.cluster else {}),
                )  # fmt: skip
        for name in self._failing.keys() - failing.keys():
            self._control.notifier.reporter.report("discovery restored", rule=name)
        self._failing = failing
