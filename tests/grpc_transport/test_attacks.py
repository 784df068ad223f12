"""Hostile clients, in short: others wait little, memory and log stay bounded.

``python -m testbed.tools.transport_attacks`` attacks for longer and prints the table of
docs/threats.md.
"""

from __future__ import annotations

import asyncio

import pytest

from testbed.tools.attacked_server import attacked
from testbed.tools.transport_attacks import ATTACKS, Victim, attack

ATTACKERS = 4


@pytest.mark.parametrize("name", ATTACKS)
async def test_no_client_stops_the_others(name: str) -> None:
    """While four connections attack, another waits less than 100 ms of processor time.

    So does who asks the admin port, on a connection of its own for each question.
    """
    async with attacked() as target:
        outcome = await attack(target, name, rounds=3)

    assert outcome.longest_wait < 0.1
    assert outcome.admin_wait < 0.5
    assert outcome.memory < 16 * ATTACKERS
    assert outcome.log_lines < 10


async def test_at_the_limit_of_open_files_accepting_pauses_with_one_line() -> None:
    """A real limit: who is connected is served on, and who waits is served once there is room."""
    async with attacked() as target:
        victim = Victim(*await asyncio.open_connection("127.0.0.1", target.port))
        await victim.ask()
        target.limit_open_files(3)
        crowd = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(20)]
        async with asyncio.timeout(60):
            while b"accepting paused" not in target.log.read_bytes():
                await victim.ask()
        waited = [await victim.ask() for _ in range(50)]
        for _, writer in crowd:
            writer.transport.abort()
        late = Victim(*await asyncio.open_connection("127.0.0.1", target.port))
        async with asyncio.timeout(60):
            await late.ask()
        for each in (victim, late):
            each.close()
        lines = target.log.read_bytes().splitlines()

    assert max(waited) < 0.1
    assert [b"accepting paused"] == [b"accepting paused" for line in lines if b"paused" in line]
    assert len(lines) < 5
