"""Ports that are reserved until their servers bind them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.processes import ports
from testbed.processes.ports import (
    BLOCK,
    FIRST,
    LAST,
    MAX_BLOCKS,
    PortBlocks,
    free_port,
    free_ports,
    outside,
)

TWO_BLOCKS = range(62_000, 62_000 + 2 * BLOCK + 1)
"""Above those of outgoing connections and of `free_ports`: no one else listens there."""
THREE_BLOCKS = range(63_000, 63_000 + 3 * BLOCK + 1)


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[PortBlocks]:
    """Return ports that no test run beside uses: its locks are elsewhere."""
    made = PortBlocks(tmp_path, TWO_BLOCKS)
    yield made
    made.close()


def test_free_ports_are_different_and_can_be_bound() -> None:
    """Every port that was reserved can be listened on, all at once."""
    found = free_ports(5)
    assert len(set(found)) == 5
    for port in found:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", port))


def test_a_port_is_not_reserved_again_before_all_others() -> None:
    """The server that it is for may still be starting."""
    assert 2 * BLOCK == len({free_port() for _ in range(2 * BLOCK)})


def test_a_port_in_use_is_passed_over(blocks: PortBlocks) -> None:
    """A server that some other program started is left alone."""
    (first,) = blocks.take(1, host="127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        rest = blocks.take(BLOCK, host="127.0.0.1")
        again = blocks.take(BLOCK - 1, host="127.0.0.1")
        assert first not in rest + again


def test_processes_share_no_port(tmp_path: Path) -> None:
    """What one process holds is not reserved by another, whatever is bound."""
    code = (
        "import sys; from pathlib import Path;"
        "from testbed.processes.ports import PortBlocks;"
        f"made = PortBlocks(Path({str(tmp_path)!r}),"
        f" range({THREE_BLOCKS.start}, {THREE_BLOCKS.stop}));"
        f"print(*made.take({BLOCK}, host='127.0.0.1'), flush=True); sys.stdin.read()"
    )
    held: set[int] = set()
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
        for _ in range(3)
    ]
    for process in running:
        assert process.stdout is not None
        held.update(map(int, process.stdout.readline().split()))
    with pytest.raises(OSError, match="only 0 of 1 ports are free"):
        PortBlocks(tmp_path, THREE_BLOCKS).take(1, host="127.0.0.1")
    for process in running:
        process.communicate()
    made = PortBlocks(tmp_path, THREE_BLOCKS)
    assert len(held) == 3 * BLOCK
    assert 1 == len(made.take(1, host="127.0.0.1"))  # a process that ended holds nothing
    made.close()


def test_a_forked_child_has_ports_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would otherwise reserve the ports that its parent reserves next."""
    mine = free_port()
    monkeypatch.setattr(ports, "_blocks", ports._blocks)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    theirs = free_port()
    assert (mine - FIRST) // BLOCK != (theirs - FIRST) // BLOCK


@pytest.mark.parametrize(
    ("outgoing", "usable"),
    [
        pytest.param(range(32_768, 61_000), range(FIRST, 32_768), id="of Linux"),
        pytest.param(range(15_000, 30_000), range(30_000, LAST), id="low"),
        pytest.param(range(1024, 65_536), range(FIRST, LAST), id="everything"),
        pytest.param(range(61_000, 65_536), range(FIRST, 61_000), id="high"),
    ],
)
def test_ports_of_outgoing_connections_are_left_out(outgoing: range, usable: range) -> None:
    """A client that connects in between would take the port of a server that is to start."""
    assert usable == outside(outgoing)


def test_one_call_may_ask_for_more_than_a_process_usually_holds() -> None:
    """A large emulated fleet."""
    count = BLOCK * MAX_BLOCKS + 1
    assert count == len(set(free_ports(count)))
