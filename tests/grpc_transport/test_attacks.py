"""Hostile clients, in short: others wait little, memory and log stay bounded.

``python -m testbed.tools.transport_attacks`` attacks for longer and prints the table of
docs/threats.md.
"""

from __future__ import annotations

import pytest

from testbed.tools.transport_attacks import ATTACKS, attack, attacked

ATTACKERS = 4


@pytest.mark.parametrize("name", ATTACKS)
async def test_no_client_stops_the_others(name: str) -> None:
    """While four connections attack, another waits less than 100 ms of processor time."""
    async with attacked() as target:
        outcome = await attack(target, name, rounds=5)

    assert outcome.longest_wait < 0.1
    assert outcome.memory < 16 * ATTACKERS
    assert outcome.log_lines < 10
