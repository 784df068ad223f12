"""Free ports."""

from __future__ import annotations

import socket

import pytest

from testbed.processes.ports import free_port, free_ports


def test_free_ports_are_different_and_can_be_bound() -> None:
    """Every port that was given can be listened on, all at once."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", port))


def test_a_port_in_use_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """A range whose only other port is taken yields the free one."""
    first, second = sorted(free_ports(2))
    monkeypatch.setattr("testbed.processes.ports._RANGE", [first, second])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first))
        taken.listen()
        assert free_port() == second
