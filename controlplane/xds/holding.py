"""What a client holds of one type, and the step from there to what it should hold.

Thousands of clients of one view go through the same states, so a state is an immutable object that
they share, and the step between two states is computed once and remembered with the newer one.
A stream then costs a look-up, whatever the number of resources.
This module knows no nonces and no streams.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

from controlplane.xds.types import Push, Resource

RESPONSE_LIMIT = 2_000_000
"""Bytes of resources in one response, where a type may be split.
gRPC clients refuse messages above 4 MiB by default."""

MAX_STEPS = 64
"""Steps remembered between two states; only a client that asks for odd subsets makes more than a
few, and it must not grow our memory."""

NONE: frozenset[str] = frozenset()


class Aim(NamedTuple):
    """How a step is to be made; all that it depends on besides the two states."""

    delta: bool = False
    """Whether the client is reported differences, removals included."""
    whole: bool = False
    """Whether a response must carry everything wanted (state of the world, clusters, listeners)."""
    again: frozenset[str] = NONE
    """Names to send though the client was sent their version."""
    apart: frozenset[str] = NONE
    """Names that a client refused: each travels alone, for a bad one spoils its whole response."""
    keep: bool = False
    """Whether names that are gone stay for now (make before break)."""
    fresh_only: bool = False
    """Whether only what the client was never sent may go (make before break)."""


class Step(NamedTuple):
    """One response, and the state of a client that was sent it."""

    push: Push
    due: bool
    """Whether it must be sent; an empty response of whole state says that everything is gone."""
    to: ClientState | None
    """None for the state aimed at: naming it here would make a reference cycle of big values."""
    removes: bool = False
    """Whether something that was held is gone."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ClientState:
    """Resources of one type at a client; compared by identity."""

    version: str
    """Of the type in the view it was chosen from."""
    resources: Mapping[str, Resource]
    missing: frozenset[str] = NONE
    """Names wanted that did not exist."""
    steps: WeakKeyDictionary[ClientState, dict[Aim, Step]] = field(
        default_factory=WeakKeyDictionary, init=False, repr=False
    )

    def step_from(self, held: ClientState, aim: Aim) -> Step:
        """Return the next response that leads from *held* to this state."""
        steps = self.steps.get(held)
        if steps is None:
            self.steps[held] = steps = {}
        step = steps.get(aim)
        if step is None:
            if len(steps) >= MAX_STEPS:
                steps.clear()
            steps[aim] = step = _make_step(held, self, aim)
        return step


NOTHING = ClientState("", {})
"""What a new client holds as far as we know."""


@dataclass(frozen=True, slots=True)
class _Difference:
    """What separates what is held from what should be."""

    changed: list[Resource]
    """New, changed, or to be sent again."""
    gone: tuple[str, ...]
    missing: frozenset[str]
    """Names wanted that do not exist, which the client was not reported yet."""


def _make_step(held: ClientState, target: ClientState, aim: Aim) -> Step:
    gone = tuple(name for name in held.resources if name not in target.resources)
    removes = bool(gone)
    goal = target
    if gone and aim.keep:
        kept = {name: held.resources[name] for name in gone}
        goal = ClientState(target.version + "+kept", {**target.resources, **kept}, target.missing)
        gone = ()
    changed = [
        resource
        for name, resource in target.resources.items()
        if name in aim.again
        or (known := held.resources.get(name)) is None
        or (known is not resource and known.version != resource.version)
    ]
    # A name that was held and does not exist any more is gone, not missing: it may be kept.
    missing = (target.missing - held.missing).difference(held.resources)
    difference = _Difference(changed, gone, missing)
    step = (_whole_step if aim.whole else _partial_step)(held, goal, aim, difference)
    return Step(step.push, step.due, None if step.to is target else step.to, removes)


def _whole_step(held: ClientState, goal: ClientState, aim: Aim, difference: _Difference) -> Step:
    changed, gone, missing = difference.changed, difference.gone, difference.missing
    if not changed and not gone and not missing:
        return Step(Push(goal.version), due=False, to=held if aim.keep else goal)
    if aim.fresh_only and held.resources:
        return Step(Push(goal.version), due=False, to=held)
    adds = any(resource.name not in held.resources for resource in changed)
    push = Push(
        goal.version, tuple(goal.resources.values()), missing=tuple(sorted(missing)), adds=adds
    )
    return Step(push, due=True, to=goal)


def _partial_step(held: ClientState, goal: ClientState, aim: Aim, difference: _Difference) -> Step:
    changed, gone, missing = difference.changed, difference.gone, difference.missing
    ready = changed
    if aim.fresh_only:
        ready = [
            resource
            for resource in changed
            if resource.name not in held.resources or resource.name in aim.again
        ]
    removed: list[str] = []
    if aim.delta:
        vanished = (name for name in aim.again if name not in goal.resources)
        removed = sorted({*gone, *missing, *vanished})
    together = [resource for resource in ready if resource.name not in aim.apart]
    removed_together = [name for name in removed if name not in aim.apart]
    if together or removed_together:
        sent, dropped = _within_limit(together), removed_together
    else:
        sent = ready[:1]
        dropped = [] if sent else removed[:1]
    reported = missing if not aim.delta else missing.intersection(dropped)
    push = Push(
        goal.version,
        tuple(sent),
        tuple(dropped),
        tuple(sorted(reported)),
        adds=any(resource.name not in held.resources for resource in sent),
    )
    due = bool(push.resources or push.removed or push.missing)
    if not due and (aim.keep or len(sent) < len(changed)):
        return Step(push, due=False, to=held)
    if len(sent) == len(changed) and (not aim.delta or len(dropped) == len(removed)):
        return Step(push, due, goal)
    drop = set(dropped) if aim.delta else set(gone)
    resources = {name: known for name, known in held.resources.items() if name not in drop}
    resources.update((resource.name, resource) for resource in sent)
    still = held.missing.intersection(goal.missing)
    return Step(push, due, ClientState(goal.version, resources, still | reported))


def _within_limit(resources: list[Resource]) -> list[Resource]:
    size = 0
    for count, resource in enumerate(resources):
        size += len(resource.body)
        if size > RESPONSE_LIMIT and count:
            return resources[:count]
    return resources
