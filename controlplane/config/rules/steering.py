"""Rules on the network, on ``steering`` and on overrides."""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.config import override_rules
from controlplane.config.rules.sections import Entry, Sections, models_of
from controlplane.config.rules.services import canary_faults
from controlplane.config.schema.steering import Steering
from controlplane.config.units import parse_duration, parse_share
from controlplane.errors import Fault


def path_faults(doc: Sections) -> Iterator[Fault]:
    """Check paths: their ends, and that each is described once."""
    seen: dict[tuple[str | None, str | None], Entry] = {}
    for path in doc.root.entry("network").entries("paths"):
        yield from doc.known(path, "from", "site", doc.sites)
        yield from doc.known(path, "to", "site", doc.sites)
        ends = path.text("from"), path.text("to")
        if None in ends:
            continue
        if ends[0] == ends[1]:
            yield doc.at(
                path, "to", "leads to where it begins;"
                " network.local_rtt is the round trip within a site"
            )  # fmt: skip
        first = seen.setdefault(ends, path)
        if first is not path:
            yield doc.at(
                path, None, f"the path from '{ends[0]}' to '{ends[1]}' is already given on"
                f" line {doc.line(first.path)}; join the two"
            )  # fmt: skip
        if path.get("rtt") is None and path.get("bandwidth") is None:
            yield doc.at(path, None, "says nothing of the path; give rtt or bandwidth")


def steering_faults(doc: Sections) -> Iterator[Fault]:
    """Check the times of ``steering``, and its canary."""
    steering = doc.root.entry("steering")
    yield from canary_faults(doc, steering)
    given = {key: steering.number(key, parse_duration) for key in ("period", "expiry")}
    defaults = Steering()
    period = defaults.period if given["period"] is None else given["period"]
    expiry = defaults.expiry if given["expiry"] is None else given["expiry"]
    if 0 < expiry <= period:
        key = "period" if given["expiry"] is None else "expiry"
        yield doc.at(
            steering, key, f"expiry ({_seconds(expiry)}) must be longer than period"
            f" ({_seconds(period)}), or every instance would be unknown at each decision"
        )  # fmt: skip


def override_faults(doc: Sections) -> Iterator[Fault]:
    """Check overrides: their places, effects and sums."""
    seen: dict[tuple[str | None, ...], Entry] = {}
    for override in doc.override_list:
        if not isinstance(override.raw, dict):
            continue
        for key, names in (
            ("service", doc.services), ("instance", doc.instances), ("site", doc.sites)
        ):  # fmt: skip
            yield from doc.known(override, key, key, names)
        if override.get("instance") is None and override.get("site") is None:
            yield doc.at(override, None, override_rules.NO_PLACE)
        place = tuple(override.text(key) for key in ("service", "instance", "site"))
        first = seen.setdefault(place, override)
        if first is not override:
            yield doc.at(
                override, None, "is for the same place as the one on line"
                f" {doc.line(first.path)}; join the two"
            )  # fmt: skip
        yield from contradictions(doc, override)
        yield from misplaced(doc, override)
    yield from oversubscribed(doc)


def contradictions(doc: Sections, override: Entry) -> Iterator[Fault]:
    """Check that the effects of *override* agree."""
    for key, message in override_rules.contradictions(
        drain=override.get("drain") is True,
        pin=override.get("pin") is True,
        min_share=override.number("min_share", parse_share),
        max_share=override.number("max_share", parse_share),
    ):
        yield doc.at(override, key, message)
    known = {"service", "instance", "site", "reason", *override_rules.EFFECTS}
    given = [override.get(key) for key in override_rules.EFFECTS]
    if set(override.raw) <= known and all(value is None or value is False for value in given):
        yield doc.at(override, None, override_rules.NO_EFFECT)


def misplaced(doc: Sections, override: Entry) -> Iterator[Fault]:
    """Check that the instance of *override* is where and what the rest of it says."""
    instance = doc.instances.entries.get(override.text("instance") or "")
    if instance is None:
        return
    # What is unknown, or cannot be read, has an error of its own.
    site, home = override.text("site"), instance.text("site")
    service = doc.services.entries.get(override.text("service") or "")
    served = [] if service is None else [m.text("name") for m in service.entries("models")]
    running = models_of(instance)
    is_read = service is not None and None not in served and running <= doc.models.entries.keys()
    for key, message in override_rules.misplacements(
        instance=override.text("instance") or "",
        home=home or "",
        site=site if site in doc.sites.entries and home in doc.sites.entries else None,
        models=sorted(running),
        service=override.text("service") if is_read else None,
        served=[name for name in served if name is not None],
    ):
        yield doc.at(override, key, message)


def oversubscribed(doc: Sections) -> Iterator[Fault]:
    """Check that least shares add up to at most all of a service."""
    totals: dict[str | None, float] = {}
    for override in doc.override_list:
        if override.text("instance") is None:
            continue
        service = override.text("service")
        share = override.number("min_share", parse_share) or 0.0
        totals[service] = totals.get(service, 0.0) + share
        if share and totals[service] > 1 + 1e-9:
            yield doc.at(
                override, "min_share", f"brings the least shares of '{service or 'all'}' to"
                f" {totals[service]:.0%}; together at most 100%"
            )  # fmt: skip


def _seconds(duration: float) -> str:
    return f"{duration:g}s"
