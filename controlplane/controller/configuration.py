"""From the file, discovery and overrides to the effective configuration.

What changes here waits until a cycle puts it in force, so that no cycle sees two configurations.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from controlplane.config import (
    Config,
    DiscoveredInstance,
    DiscoveredMatch,
    Instance,
    RejectedInstance,
)
from controlplane.config.merge import merge
from controlplane.config.resolution import SHARED_ADDRESS_REMEDY, shared_addresses, with_addresses
from controlplane.config.withdrawals import Withdrawn, withdrawn
from controlplane.controller.config_changes import (
    ConfigChange,
    ConfigStatus,
    DiscoveryChange,
    OverrideChange,
    PendingConfig,
)
from controlplane.controller.discovery_status import RuleStatus
from controlplane.controller.override_requests import OverrideRequest
from controlplane.controller.overrides import ActiveOverride, OverrideStore
from controlplane.errors import ConfigError, Fault
from controlplane.runtime.broadcast import Broadcast
from controlplane.runtime.log import Logger

_RELOADABLE_SERVER_KEYS = {"identities", "agents"}
_MOST_NAMED = 20
"""Instances that one line of the log names."""


class Configuration:
    """The configuration in force and the one that waits for the next cycle.

    Attributes:
        file_config: the file's alone.
        merged: the file's with the instances that were discovered.
        overrides: those made while running.
        effective: what is in force: `merged` with the overrides.
        discovery_status: returns the state of each discovery rule; set by discovery.
        file_changed: the file has another valid configuration, which is not in force yet.
        rejected: the file is wrong; the configuration in force stays.
        discovery_changed: discovery, or the file beside it, came to something else.
        overrides_changed: an override came or went.
        cycle_wanted: the reason why a cycle should run soon.
        withdrawn: what must get no more requests, whatever a cycle decides later.
        changed: another configuration has come into force.
    """

    def __init__(
        self,
        file_config: Config,
        *,
        file: Path,
        overrides: OverrideStore,
        found: Iterable[DiscoveredInstance],
        matches: Iterable[DiscoveredMatch] = (),
        addresses: Mapping[str, str] | None = None,
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        log: Logger,
    ) -> None:
        self.file_config = file_config
        self.overrides = overrides
        self.discovery_status: Callable[[], tuple[RuleStatus, ...]] = tuple
        self._found = tuple(found)
        self._matches = tuple(matches)
        self._not_found: tuple[RejectedInstance, ...] = ()
        self._addresses = addresses or {}
        self.merged = merge(file_config, self._found, matches=self._matches)
        self.effective = with_addresses(self.merged.config, self._addresses)
        self._clock = clock
        self._unix_time = unix_time
        self._log = log
        self.status = ConfigStatus(
            str(file), config_version(self.effective), loaded_at=clock()
        )  # fmt: skip
        self._pending: PendingConfig | None = None
        self._sharing: dict[str, str] = {}
        self._warn_of_shared_addresses()
        self.file_changed = Broadcast[Config]()
        self.rejected = Broadcast[tuple[Fault, ...]]()
        self.discovery_changed = Broadcast[DiscoveryChange]()
        self.overrides_changed = Broadcast[OverrideChange]()
        self.cycle_wanted = Broadcast[str]()
        self.withdrawn = Broadcast[Withdrawn]()
        self.changed = Broadcast[ConfigChange]()

    @property
    def refused(self) -> tuple[RejectedInstance, ...]:
        """Return the discovered instances that do not take part."""
        return (*self._not_found, *self.merged.refused)

    # What comes in.

    def receive_file(self, content: Config | ConfigError) -> None:
        """Receive what the file says now; a wrong one changes nothing but the status."""
        if isinstance(content, ConfigError):
            self.status = replace(
                self.status, faults=content.faults, refused_at=self._clock()
            )  # fmt: skip
            self.rejected.publish(content.faults)
            return
        self.status = replace(self.status, faults=(), refused_at=None)
        former, self.file_config = self.file_config, content
        self._merge(former.instances)
        self._prepare("configuration changed")
        self.file_changed.publish(content)

    def receive_discovered(
        self,
        found: Iterable[DiscoveredInstance],
        refused: Iterable[RejectedInstance] = (),
        matches: Iterable[DiscoveredMatch] = (),
    ) -> None:
        """Receive the instances and matches that exist beside the file's.

        Args:
            found: all of them.
            refused: objects that come to nothing, and why.
            matches: what HTTPRoutes say.
        """
        before = self.merged.taken, self.merged.matches
        self._found, self._not_found = tuple(found), tuple(refused)
        self._matches = tuple(matches)
        self._merge()
        if (self.merged.taken, self.merged.matches) != before:
            quiet = self._pending is None or self._pending.quiet
            self._prepare("instances were discovered", quiet=quiet)

    def receive_addresses(self, addresses: Mapping[str, str]) -> None:
        """Adopt the IP addresses of the DNS names that instances have."""
        self._addresses = dict(addresses)
        self._warn_of_shared_addresses()
        quiet = self._pending is None or self._pending.quiet
        self._prepare("instances' names were resolved", quiet=quiet)

    def _warn_of_shared_addresses(self) -> None:
        sharing = shared_addresses(self.merged.config, self._addresses)
        if sharing and sharing != self._sharing:
            self._log.warning(
                "instances left out; their names resolve to another instance's address",
                left_out=[f"{name}: {holder}" for name, holder in sharing.items()][:_MOST_NAMED],
                count=len(sharing),
                remedy=SHARED_ADDRESS_REMEDY,
            )
        self._sharing = sharing

    def add_override(self, request: OverrideRequest) -> ActiveOverride:
        """Add an operator's override; it is in force from the next cycle, which runs at once.

        Raises:
            OverrideError: it cannot be added.
        """
        added = self.overrides.add(request, unix_now=self._unix_time())
        self.overrides_changed.publish(OverrideChange("override added", added))
        self._prepare("an override was added")
        return added

    def remove_override(self, name: str, *, by: str) -> ActiveOverride:
        """Remove an override made while running.

        Raises:
            OverrideError: there is no such one.
        """
        removed = self.overrides.remove(name)
        self.overrides_changed.publish(OverrideChange("override removed", removed, by))
        self._prepare("an override was removed")
        return removed

    def adopt_overrides(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Use the overrides of all replicas, which one of them has changed."""
        adopted = self.overrides.adopt(entries, unix_now=self._unix_time())
        for item in adopted.added:
            self.overrides_changed.publish(OverrideChange("override added", item))
        for item in adopted.removed:
            self.overrides_changed.publish(OverrideChange("override removed", item, "a replica"))
        if adopted.unread:
            self._log.warning(
                "replicas' overrides partly unreadable or not saved",
                reason=adopted.unread,
                remedy="run replicas of one version, and make room in --state-dir;"
                " compare with 'cats override list'",
            )
        if adopted.added or adopted.removed:
            self._prepare("overrides changed by a replica")

    def expire_overrides(self) -> None:
        """Remove the overrides whose time is over; a wall clock that was set ends none."""
        step = self.overrides.follow_clock(unix_now=self._unix_time(), now=self._clock())
        if step:
            self._log.warning(
                "wall clock stepped; overrides keep their remaining time",
                seconds=round(step, 1),
                overrides=len(self.overrides.active),
                remedy="slew the clock instead of stepping it (chrony, systemd-timesyncd); other"
                " replicas and certificates use their own clocks",
            )
        for expired in self.overrides.expire(unix_now=self._unix_time()):
            self.overrides_changed.publish(OverrideChange("override expired", expired))
            self._prepare("an override expired")

    def restore_overrides(self) -> None:
        """Use the overrides that the store has loaded."""
        if self.overrides.active:
            self._log.info("overrides restored", count=len(self.overrides.active))
            self._prepare("overrides restored")

    # What a cycle puts in force.

    def take_pending(self) -> PendingConfig | None:
        """Return what waits to be put in force, which waits no longer."""
        pending, self._pending = self._pending, None
        return pending

    async def change_to(self, pending: PendingConfig | None) -> ConfigChange | None:
        """Return what *pending* changes; None if that is nothing, or the same again."""
        if pending is None:
            return None
        # Hashed here and not with each change: it takes a while with many instances.
        version = await asyncio.to_thread(config_version, pending.config)
        change = ConfigChange(pending.config, version, pending.quiet)
        if change.version == self.status.version:
            if not change.quiet:
                self._log.info("configuration unchanged", version=change.version)
            return None
        fixed, now = change.config.server, self.effective.server
        if fixed.model_dump(exclude=_RELOADABLE_SERVER_KEYS) != now.model_dump(
            exclude=_RELOADABLE_SERVER_KEYS
        ):
            self._log.warning(
                "server settings changed; not in force before a restart",
                remedy="restart the control plane",
            )
        return change

    def put_in_force(self, change: ConfigChange) -> None:
        """Make *change* the effective configuration."""
        self.effective = change.config
        self.status = replace(self.status, version=change.version, loaded_at=self._clock())
        self.changed.publish(change)

    def _merge(self, former: Iterable[Instance] = ()) -> None:
        """Merge what the file has with what was found; *former* are those it had before."""
        before, refused = self.merged, self.refused
        self.merged = merge(
            self.file_config,
            self._found,
            matches=self._matches,
            before=(*before.taken, *(DiscoveredInstance("", instance) for instance in former)),
            awaited=any(not rule.listed for rule in self.discovery_status()),
        )
        self._warn_of_shared_addresses()
        self.discovery_changed.publish(
            DiscoveryChange(before, self.merged, refused, self.refused)
        )  # fmt: skip

    def _prepare(self, reason: str, *, quiet: bool = False) -> None:
        merged = with_addresses(self.merged.config, self._addresses)
        config = self.overrides.apply(merged)
        self._pending = PendingConfig(config, quiet)
        gone = withdrawn(self.effective, config)
        if gone:
            self.withdrawn.publish(gone)
        self.cycle_wanted.publish(reason)


def config_version(config: Config) -> str:
    """Return the version of a configuration: a hash of its values, not of its text."""
    return hashlib.blake2b(config.model_dump_json().encode(), digest_size=8).hexdigest()
