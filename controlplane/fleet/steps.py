"""Work in steps: what takes a while pauses, so that an event loop can do something else between.

A step is some milliseconds of work, whatever the size of the fleet.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import islice
from types import coroutine
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")
Result = TypeVar("Result")

Steps = Generator[None, None, Result]
"""Pauses after each step; returns the result."""


def collect(pairs: Iterable[tuple[Key, Value]], *, size: int) -> Steps[dict[Key, Value]]:
    """Return *pairs* as a dictionary, with a pause after every *size* of them.

    *pairs* is read between pauses: what it goes through must not change size meanwhile.
    """
    found: dict[Key, Value] = {}
    rest = iter(pairs)
    while step := dict(islice(rest, size)):
        found |= step
        yield
    return found


def finish(steps: Steps[Result]) -> Result:
    """Return the result of *steps*, taken without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


@coroutine
def in_turns(steps: Steps[Result]) -> Steps[Result]:
    """Await the result of *steps*; an event loop takes its turns in the pauses."""
    return (yield from steps)
