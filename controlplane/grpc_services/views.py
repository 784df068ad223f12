"""Which snapshot each site's clients get, and who wants to know when it changes.

Content that did not change keeps its object, so that streams see by identity that nothing is due
and so that everything computed from it is shared by all of them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping

from controlplane.resources.names import LOW_BATTERY
from controlplane.xds.snapshot import (
    Snapshot,
    TypeSnapshot,
    default_view_key,
    split_view_key,
    view_key,
)

DEFAULT_VIEW = ""
"""Key of the view for Envoys of unknown sites."""

Wake = Callable[[], None]


class ViewStore:
    """The newest snapshot of each view. For one event loop; never waits."""

    def __init__(self) -> None:
        self._views: dict[str, Snapshot] = {}
        self._watchers: dict[str, dict[int, Wake]] = {}
        self._next_watcher = 0
        self._low_battery: Mapping[str, Collection[str]] = {}

    @property
    def ready(self) -> bool:
        """Return whether anything was published; before, an answer would wipe a running Envoy."""
        return bool(self._views)

    @property
    def views(self) -> Mapping[str, Snapshot]:
        """Return the newest snapshots by site."""
        return self._views

    def snapshot(self, site: str) -> Snapshot | None:
        """Return the snapshot of a view; that of its role's default where there is none.

        Args:
            site: a site's name, or `view_key` where clients have a role.
        """
        return self._views.get(site) or self._views.get(default_view_key(site))

    def variant(self, site: str, role: str, client: str) -> str:
        """Return which view of *site* and *role* a *client* gets; empty for the usual one."""
        is_low = client in self._low_battery.get(site, ())
        return LOW_BATTERY if is_low and view_key(site, role, LOW_BATTERY) in self._views else ""

    def publish(
        self,
        views: Mapping[str, Snapshot],
        *,
        low_battery: Mapping[str, Collection[str]] | None = None,
    ) -> bool:
        """Replace all views, wake the streams of those that changed, and return whether any did.

        Args:
            views: the new ones.
            low_battery: site -> ids of the clients on devices whose battery is low, each with a
                view of its own among *views*; None for the previous ones.
        """
        before = {site: self._seen(site) for site in self._watchers}
        if low_battery is not None:
            self._low_battery = low_battery
        known: dict[tuple[str, str], TypeSnapshot] = {}
        for snapshot in self._views.values():
            for type_url, resources in snapshot.types.items():
                known[type_url, resources.version] = resources
        newer = {site: self._interned(site, snapshot, known) for site, snapshot in views.items()}
        changed = newer.keys() != self._views.keys() or any(
            self._views[site] is not snapshot for site, snapshot in newer.items()
        )
        self._views = newer
        for site, old in before.items():
            if any(map(operator.is_not, self._seen(site), old)):
                for wake in tuple(self._watchers[site].values()):
                    wake()
        return changed

    def watch(self, site: str, wake: Wake) -> Callable[[], None]:
        """Call *wake* whenever the snapshot of *site* changes, until the result is called."""
        number = self._next_watcher = self._next_watcher + 1
        self._watchers.setdefault(site, {})[number] = wake

        def unwatch() -> None:
            watchers = self._watchers.get(site, {})
            watchers.pop(number, None)
            if not watchers:
                self._watchers.pop(site, None)

        return unwatch

    def _seen(self, watched: str) -> tuple[object, ...]:
        """Return what the streams that watch a view depend on."""
        site, role = split_view_key(watched)
        low = self._views.get(view_key(site, role, LOW_BATTERY))
        return self.snapshot(watched), low, self._low_battery.get(site)

    def _interned(
        self, site: str, snapshot: Snapshot, known: dict[tuple[str, str], TypeSnapshot]
    ) -> Snapshot:
        types = {
            type_url: known.setdefault((type_url, resources.version), resources)
            for type_url, resources in snapshot.types.items()
        }
        old = self._views.get(site)
        if (
            old is not None
            and old.types.keys() == types.keys()
            and all(old.types[type_url] is resources for type_url, resources in types.items())
        ):
            return old
        same = all(snapshot.types[type_url] is resources for type_url, resources in types.items())
        return snapshot if same else Snapshot(types)
