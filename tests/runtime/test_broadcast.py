"""A broadcast reaches every receiver, whatever the others do."""

from __future__ import annotations

import pytest

from controlplane.runtime.broadcast import Broadcast


def test_every_receiver_gets_every_value() -> None:
    """Until it unsubscribes."""
    broadcast = Broadcast[int]()
    assert not broadcast
    first: list[int] = []
    second: list[int] = []
    broadcast.subscribe(first.append)
    broadcast.subscribe(second.append)
    broadcast.publish(1)
    broadcast.unsubscribe(first.append)
    broadcast.publish(2)

    assert broadcast
    assert ([1], [1, 2]) == (first, second)


def test_a_receiver_that_raises_does_not_keep_the_value_from_others() -> None:
    """The first error is raised once all have been called."""
    broadcast = Broadcast[int]()
    received: list[int] = []

    def fail(value: int) -> None:
        raise ValueError(value)

    broadcast.subscribe(fail)
    broadcast.subscribe(received.append)
    with pytest.raises(ValueError, match="7"):
        broadcast.publish(7)

    assert [7] == received
