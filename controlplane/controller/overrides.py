"""Operators' overrides that are not in the file but were made while running.

Each says who made it, when, why and until when, survives a restart in the state directory, and
ends by itself. What it does is what an override of the file does: `OverrideStore.apply` appends
them.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from controlplane.config import Config, Override
from controlplane.config.override_rules import EFFECTS
from controlplane.controller.override_requests import (
    OverrideError,
    OverrideRequest,
    check_override,
    unknown_override,
)
from controlplane.runtime.files import keep_aside, read_file, replace_file

MOST = 200
"""Overrides standing at a time."""
FILE_NAME = "overrides.json"
SIZE_LIMIT = 1_000_000
CLOCK_STEP = 5.0
"""Seconds within one cycle from which the wall clock was set, not slewed."""


@dataclass(frozen=True, slots=True)
class ActiveOverride:
    """One override in force."""

    id: str
    override: Override
    by: str
    since: float
    """Unix time."""
    expires: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became others' overrides by adopting those of the replicas."""

    added: tuple[ActiveOverride, ...]
    removed: tuple[ActiveOverride, ...]
    unread: tuple[str, ...]
    """What could not be read or saved."""


def make_override(request: OverrideRequest, *, unix_now: float) -> ActiveOverride:
    """Return what *request* asks for, with a name of its own."""
    return ActiveOverride(
        id=secrets.token_hex(4),
        override=_bare(request),
        by=request.by,
        since=unix_now,
        expires=unix_now + request.lasts,
    )


def encode_override(item: ActiveOverride) -> dict[str, Any]:
    """Return an override as it is saved."""
    return {
        "id": item.id,
        "override": item.override.model_dump(mode="json", exclude_none=True),
        "by": item.by,
        "since": item.since,
        "expires": item.expires,
    }


def check_room(active: int) -> None:
    """Check that one more may be added to *active* overrides.

    Raises:
        OverrideError: it may not.
    """
    if active >= MOST:
        raise OverrideError(f"{MOST} overrides are active already; remove one, or use the file")


class OverrideStore:
    """The overrides that stand, kept in *directory* if there is one. For one event loop."""

    def __init__(self, directory: Path | None = None) -> None:
        self._path = directory / FILE_NAME if directory else None
        self._active: dict[str, ActiveOverride] = {}
        self._offset: float | None = None
        """Unix time less the monotonic clock's, when they were last compared."""

    @property
    def lasting(self) -> bool:
        """Return whether overrides survive a restart."""
        return self._path is not None

    @property
    def active(self) -> tuple[ActiveOverride, ...]:
        """Return those in force, the oldest first."""
        return tuple(self._active.values())

    def add(self, request: OverrideRequest, *, unix_now: float) -> ActiveOverride:
        """Let an override stand.

        Raises:
            OverrideError: too many stand already, or it cannot be saved.
        """
        made = make_override(request, unix_now=unix_now)
        check_room(len(self._active))
        self._replace({**self._active, made.id: made})
        return made

    def remove(self, name: str) -> ActiveOverride:
        """End an override.

        Raises:
            OverrideError: there is no such one, or the rest cannot be saved.
        """
        if name not in self._active:
            raise unknown_override(name, self._active)
        gone = self._active[name]
        self._replace({key: item for key, item in self._active.items() if key != name})
        return gone

    def adopt(self, entries: Iterable[Mapping[str, Any]], *, unix_now: float) -> Adopted:
        """Replace all by those of the replicas, which hold whether they can be saved or not."""
        before = self._active
        active, unread = _restore_all(list(entries)[:MOST], unix_now=unix_now, known=before)
        added = tuple(item for name, item in active.items() if name not in before)
        removed = tuple(item for name, item in before.items() if name not in active)
        if added or removed:
            try:
                self._replace(active)
            except OverrideError as error:
                unread.append(str(error))
            self._active = active
        return Adopted(added, removed, tuple(unread))

    def encode(self) -> list[dict[str, Any]]:
        """Return those in force as they are saved."""
        return [encode_override(item) for item in self._active.values()]

    def follow_clock(self, *, unix_now: float, now: float) -> float:
        """Keep how long each override lasts when the wall clock is set.

        Args:
            unix_now: by the wall clock.
            now: the same instant by a clock that is never set.

        Returns:
            By how many seconds it was set since the last call, 0 if it was not.
        """
        offset = unix_now - now
        step = 0.0 if self._offset is None else offset - self._offset
        self._offset = offset
        if abs(step) < CLOCK_STEP:  # slewed: overrides end by the clock that they are shown by
            return 0.0
        moved = {
            name: replace(item, since=item.since + step, expires=item.expires + step)
            for name, item in self._active.items()
        }
        if moved:
            with contextlib.suppress(OverrideError):  # a restart would go by the older instants
                self._replace(moved)
            self._active = moved
        return step

    def expire(self, *, unix_now: float) -> tuple[ActiveOverride, ...]:
        """End those whose time is over; return them."""
        over = tuple(item for item in self._active.values() if item.expires <= unix_now)
        for item in over:
            # In memory only: on disk they are over as well, whenever that is read.
            del self._active[item.id]
        return over

    def apply(self, config: Config, *, more: Iterable[Override] = ()) -> Config:
        """Return *config* with the overrides that still name what it has."""
        fitting = []
        for override in (*(item.override for item in self._active.values()), *more):
            try:
                check_override(override, config)
            except OverrideError:
                continue
            fitting.append(_bare(override))
        if not fitting:
            return config
        return config.model_copy(update={"overrides": (*config.overrides, *fitting)})

    def load(self, *, unix_now: float) -> tuple[str, ...]:
        """Restore the overrides that were in force before a restart.

        What can be read of an entry is kept, so that a drain outlives a key of another version;
        a file that cannot be read whole is kept beside the new one.

        Returns:
            What could not be read.

        Raises:
            OverrideError: nothing of the file can be read.
        """
        if self._path is None:
            return ()
        try:
            content = read_file(self._path, limit=SIZE_LIMIT)
            items = json.loads(content)["overrides"]
            entries = list(items[:MOST])
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise OverrideError(
                f"{self._path}: cannot be read: {error}; check who owns --state-dir, or remove the"
                f" file and add the overrides again; {keep_aside(self._path)}"
            ) from error
        self._active, unread = _restore_all(entries, unix_now=unix_now)
        if unread:
            unread.append(keep_aside(self._path))
        return tuple(unread)

    def _replace(self, active: Mapping[str, ActiveOverride]) -> None:
        if self._path is not None:
            items = [encode_override(item) for item in active.values()]
            try:
                replace_file(self._path, json.dumps({"overrides": items}).encode())
            except OSError as error:
                raise OverrideError(
                    f"{self._path}: cannot be written ({error.strerror}); make room, or see who"
                    " owns --state-dir"
                ) from error
        self._active = dict(active)


def _restore_all(
    entries: Iterable[Any],
    *,
    unix_now: float,
    known: Mapping[str, ActiveOverride] = MappingProxyType({}),
) -> tuple[dict[str, ActiveOverride], list[str]]:
    """Read saved overrides; return those whose time is not over, and what could not be read.

    Those that are *known* stay as they are: their instants may be another clock's.
    """
    active: dict[str, ActiveOverride] = {}
    unread = []
    for number, item in enumerate(entries):
        try:
            restored, unknown = _restore(item)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            unread.append(f"override {number}: {str(error).splitlines()[0]}")
            continue
        unread += [f"override {restored.id}: unknown key '{name}'" for name in unknown]
        if restored.id in known:
            active[restored.id] = known[restored.id]
        elif restored.expires > unix_now and math.isfinite(restored.expires):
            active[restored.id] = restored
    return active, unread


def _restore(item: Mapping[str, Any]) -> tuple[ActiveOverride, list[str]]:
    """Read one saved override; return it with the keys that are not known.

    Raises:
        ValueError, KeyError, TypeError: it cannot be read, or has no effect without them.
    """
    saved = dict(item["override"])
    unknown = sorted(saved.keys() - Override.model_fields.keys())
    override = Override.model_validate({k: v for k, v in saved.items() if k not in unknown})
    if unknown and all(getattr(override, effect) in (None, False) for effect in EFFECTS):
        raise ValueError(f"no effect but unknown keys: {', '.join(unknown)}")
    restored = ActiveOverride(
        str(item["id"]), override, str(item["by"]), float(item["since"]), float(item["expires"])
    )
    return restored, unknown


def _bare(override: Override) -> Override:
    fields = {name: getattr(override, name) for name in Override.model_fields}
    return Override.model_construct(**fields)
