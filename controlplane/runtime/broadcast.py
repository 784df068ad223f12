"""A typed connection from one part to any number of others that does not depend on their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Broadcast(Generic[Value]):
    """Hands each value to every receiver, in an order that no receiver may rely on.

    A receiver that raises does not keep the value from the others; the first error is raised when
    all have been called.
    """

    def __init__(self) -> None:
        self._receivers: list[Callable[[Value], None]] = []

    def __bool__(self) -> bool:
        """Return whether anything receives."""
        return bool(self._receivers)

    def subscribe(self, receiver: Callable[[Value], None]) -> None:
        """Add *receiver*; it gets what is published from now on."""
        self._receivers.append(receiver)

    def unsubscribe(self, receiver: Callable[[Value], None]) -> None:
        """Remove *receiver*.

        Raises:
            ValueError: it is not subscribed.
        """
        self._receivers.remove(receiver)

    def publish(self, value: Value) -> None:
        """Hand *value* to every receiver.

        Raises:
            Exception: the first error of a receiver.
        """
        failure: Exception | None = None
        for receiver in tuple(self._receivers):
            try:
                receiver(value)
            except Exception as error:  # noqa: BLE001 -- raised below
                failure = failure or error
        if failure is not None:
            raise failure
