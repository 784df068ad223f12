"""A Lease of coordination.k8s.io/v1: who leads, where the leader is reached, and what all share.

The object is replaced only at the version that was read, so of two that write one is refused
(409). Its times are for people: who may lead is decided by `controlplane.bus.lease`, which
compares no clocks.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controlplane.sources.kubernetes.api_answers import ApiError, Failure
from controlplane.sources.kubernetes.client import ApiClient
from controlplane.sources.kubernetes.objects import LEASES

ADDRESS = "cats/address"
"""Annotation: where the holder listens for other replicas."""
OVERRIDES = "cats/overrides"
"""Annotation: operators' overrides, in JSON."""
MAX_OVERRIDES = 200_000
"""Characters; the API takes 256 kB of annotations."""
WITHIN = 2.0
"""Seconds for one answer; a lease that takes longer to renew is soon lost anyway."""


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says."""

    holder: str
    """Empty if it was given back."""
    revision: int
    """Of the object, which grows with every write of it; 0 if there is none."""
    address: str = ""
    overrides: Sequence[Mapping[str, Any]] | None = None
    """None if it carries none, or none that can be read."""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The object as it was read, with what others have written into it."""


class LeaseStore:
    """One Lease object.

    Args:
        client: of the API server.
        namespace: where it is.
        name: its name.
        duration: seconds, as the object says it.
        unix_time: seconds.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        name: str,
        duration: float,
        unix_time: Callable[[], float],
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._duration = duration
        self._unix_time = unix_time

    async def read(self) -> LeaseRecord:
        """Return what the object says; one of revision 0 if there is none.

        Raises:
            ApiError: the API does not answer, or denies.
        """
        try:
            return _parse(
                await self._client.read_object(LEASES, self._namespace, self._name, within=WITHIN)
            )
        except ApiError as error:
            if error.failure is Failure.UNKNOWN:
                return LeaseRecord("", 0)
            raise

    async def hold(self, seen: LeaseRecord, *, holder: str, address: str) -> LeaseRecord:
        """Write *holder* over what was *seen*; an empty one gives the lease back.

        Raises:
            ApiError: someone else wrote in between (`Failure.CONFLICT`), or the API fails.
        """
        now = dt.datetime.fromtimestamp(self._unix_time(), dt.UTC).isoformat(
            timespec="microseconds"
        )
        spec = dict(seen.document.get("spec") or {})
        if spec.get("holderIdentity") != holder:
            spec["acquireTime"] = now.replace("+00:00", "Z")
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + bool(seen.revision)
        spec |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "renewTime": now.replace("+00:00", "Z"),
        }
        return await self._write(seen, spec=spec, annotations={ADDRESS: address})

    async def share(self, seen: LeaseRecord, overrides: Sequence[Mapping[str, Any]]) -> LeaseRecord:
        """Write *overrides* beside what was *seen*.

        Raises:
            ApiError: as `hold`.
            ValueError: they are too many for an annotation.
        """
        text = json.dumps(list(overrides), separators=(",", ":"))
        if len(text) > MAX_OVERRIDES:
            raise ValueError(f"overrides of more than {MAX_OVERRIDES} characters")
        spec = seen.document.get("spec") or {}
        return await self._write(seen, spec=spec, annotations={OVERRIDES: text})

    async def _write(
        self, seen: LeaseRecord, *, spec: Mapping[str, Any], annotations: Mapping[str, str]
    ) -> LeaseRecord:
        meta = dict(seen.document.get("metadata") or {})
        meta |= {"name": self._name, "namespace": self._namespace}
        meta["annotations"] = {**(meta.get("annotations") or {}), **annotations}
        document = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": meta,
            "spec": spec,
        }
        return _parse(
            await self._client.write_object(
                LEASES, self._namespace, document, replace=seen.revision > 0, within=WITHIN
            )
        )


def _parse(document: Mapping[str, Any]) -> LeaseRecord:
    meta, spec = document.get("metadata"), document.get("spec")
    if not isinstance(meta, dict) or not isinstance(spec, dict):
        raise ApiError(Failure.MALFORMED, "a Lease without metadata or spec")
    version = str(meta.get("resourceVersion", ""))
    if not version.isdecimal():
        raise ApiError(Failure.MALFORMED, "a Lease whose version is no number")
    annotations = meta.get("annotations")
    annotations = annotations if isinstance(annotations, dict) else {}
    return LeaseRecord(
        str(spec.get("holderIdentity") or "")[:253],
        int(version),
        str(annotations.get(ADDRESS, ""))[:300],
        _overrides(annotations.get(OVERRIDES)),
        document,
    )


def _overrides(text: object) -> Sequence[Mapping[str, Any]] | None:
    try:
        entries = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        return None
    return entries
