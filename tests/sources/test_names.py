"""Names of instances, asked for again and again; the answers are ours."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from controlplane.runtime.log import get_logger
from controlplane.sources.names import NameResolver


class Answers:
    """What the resolver says: name -> addresses; a name that is not there fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: dict[str, list[str]] = {}
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.ask)

    async def ask(self, name: str, *_: Any, **__: Any) -> list[Any]:
        """Answer as the loop's method does."""
        if name not in self.known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in self.known[name]]


async def test_the_last_good_answer_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in use is kept while it is among the answers, and when there are none."""
    answers = Answers(monkeypatch)
    changes: list[Mapping[str, str]] = []
    resolver = NameResolver(changes.append, log=get_logger(), clock=lambda: 0.0)
    resolver.reconfigure({"a.example", "b.example"})
    steps: list[dict[str, list[str]]] = [
        {"a.example": ["2001:db8::1", "10.0.0.2", "10.0.0.1"]},
        {"a.example": ["10.0.0.3", "10.0.0.1"]},
        {},
        {"a.example": ["10.0.0.4"], "b.example": ["2001:db8::2"]},
    ]
    for step in steps:
        answers.known = step
        await resolver.resolve()
    assert [
        {"a.example": "10.0.0.1"},
        {"a.example": "10.0.0.4", "b.example": "2001:db8::2"},
    ] == changes
    resolver.reconfigure({"b.example"})
    assert {"b.example": "2001:db8::2"} == resolver.addresses


async def test_a_name_without_an_address_is_warned_of_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the remedy."""
    Answers(monkeypatch)
    now = 0.0
    resolver = NameResolver(lambda _: None, log=get_logger(), clock=lambda: now)
    resolver.reconfigure({"a.example"})
    for now in (0.0, 5.0, 59.0, 61.0):  # noqa: B007 -- the resolver's clock
        await resolver.resolve()
    said = capsys.readouterr()
    assert 2 == (said.out + said.err).count("DNS name of an instance not resolved")
