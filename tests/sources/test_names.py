"""Names of instances, asked for as long as answers hold; the answers are ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from controlplane.runtime.log import get_logger
from controlplane.sources.dns import Answer, DnsResolver
from controlplane.sources.names import NameResolver
from testbed.background import running_task
from testbed.fakes.dns import DnsServer


class Answers:
    """What is answered: name -> (addresses, TTL); a name that is not there fails."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[list[str], float | None]] = {}
        self.asked: list[str] = []
        self.now = 0.0

    def resolver(self, changes: list[Mapping[str, str]], *names: str) -> NameResolver:
        """Return a resolver of *names* that lives by these answers, and by `now`."""
        made = NameResolver(
            changes.append, log=get_logger(), clock=lambda: self.now, look_up=self._look_up
        )
        made.reconfigure(names)
        return made

    async def _look_up(self, name: str) -> Answer:
        self.asked.append(name)
        if name not in self.known:
            raise OSError("no such name")
        addresses, ttl = self.known[name]
        return Answer(frozenset(addresses), ttl)


async def test_the_last_good_answer_stays() -> None:
    """An address in use is kept while it is among the answers, and when there are none."""
    answers, changes = Answers(), list[Mapping[str, str]]()
    resolver = answers.resolver(changes, "a.example", "b.example")
    steps: list[dict[str, tuple[list[str], float | None]]] = [
        {"a.example": (["2001:db8::1", "10.0.0.2", "10.0.0.1"], None)},
        {"a.example": (["10.0.0.3", "10.0.0.1"], None)},
        {},
        {"a.example": (["10.0.0.4"], None), "b.example": (["2001:db8::2"], None)},
    ]
    for step in steps:
        answers.known = step
        await resolver.resolve()
        answers.now += 5.0
    assert [
        {"a.example": "10.0.0.1"},
        {"a.example": "10.0.0.4", "b.example": "2001:db8::2"},
    ] == changes
    resolver.reconfigure({"b.example"})
    assert {"b.example": "2001:db8::2"} == resolver.addresses


async def test_an_address_that_no_instance_can_have_is_no_answer() -> None:
    """As 0.0.0.0 of a resolver that filters; IPv4 within IPv6 is that IPv4 address."""
    answers, changes = Answers(), list[Mapping[str, str]]()
    resolver = answers.resolver(changes, "a.example")
    for addresses in (
        ["0.0.0.0", "::"],
        ["::ffff:10.0.0.1", "224.0.0.1"],
        ["fe80::1", "::ffff:0.0.0.0"],
    ):
        answers.known = {"a.example": (addresses, None)}
        await resolver.resolve()
        answers.now += 5.0
    assert [{"a.example": "10.0.0.1"}] == changes


@pytest.mark.parametrize(
    ("ttl", "asked_at"),
    [
        (30.0, [0, 30, 60, 90]),
        (2.0, [*range(0, 100, 2)]),
        (0.1, [*range(100)]),  # once a second at most
        (86_400.0, [0]),
        (None, [*range(0, 100, 5)]),
    ],
)
async def test_a_name_is_asked_for_again_when_its_answer_expires(
    ttl: float | None, asked_at: list[int]
) -> None:
    """Neither sooner nor later; one without a TTL every five seconds."""
    answers = Answers()
    answers.known = {"a.example": (["10.0.0.1"], ttl)}
    resolver = answers.resolver([], "a.example")
    seen = []
    for second in range(100):
        answers.now = float(second)
        before = len(answers.asked)
        await resolver.resolve()
        if len(answers.asked) > before:
            seen.append(second)
    assert asked_at == seen


async def test_a_long_answer_is_looked_at_again_after_five_minutes() -> None:
    """The hosts file may have another one by then."""
    answers = Answers()
    answers.known = {"a.example": (["10.0.0.1"], 86_400.0)}
    resolver = answers.resolver([], "a.example")
    for answers.now in (0.0, 299.0, 300.0):
        await resolver.resolve()
    assert ["a.example"] * 2 == answers.asked


async def test_a_name_that_fails_is_asked_for_every_five_seconds() -> None:
    """Whatever its last answer's TTL was."""
    answers, changes = Answers(), list[Mapping[str, str]]()
    answers.known = {"a.example": (["10.0.0.1"], 10.0)}
    resolver = answers.resolver(changes, "a.example")
    await resolver.resolve()
    answers.known = {}
    for answers.now in (10.0, 12.0, 15.0, 19.0):
        await resolver.resolve()
    assert 3 == len(answers.asked)
    assert [{"a.example": "10.0.0.1"}] == changes


async def test_a_name_without_an_address_is_warned_of_once_a_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the remedy."""
    answers = Answers()
    resolver = answers.resolver([], "a.example")
    for answers.now in (0.0, 5.0, 59.0, 64.0):
        await resolver.resolve()
    said = capsys.readouterr()
    assert 2 == (said.out + said.err).count("DNS name of an instance not resolved")


async def test_a_record_that_changes_is_followed_once_it_expires() -> None:
    """On a real server, whose answers hold for a second."""
    changes: asyncio.Queue[Mapping[str, str]] = asyncio.Queue()
    async with DnsServer() as server, asyncio.timeout(60):
        server.records = {"a.example": (1, ["10.0.0.1"])}
        with DnsResolver([server.address]) as dns:
            resolver = NameResolver(
                changes.put_nowait,
                log=get_logger(),
                clock=asyncio.get_running_loop().time,
                look_up=dns.look_up,
            )
            async with running_task(resolver.run()):
                resolver.reconfigure({"a.example"})
                first = await changes.get()
                server.records = {"a.example": (1, ["10.0.0.2"])}
                second = await changes.get()
    assert [{"a.example": "10.0.0.1"}, {"a.example": "10.0.0.2"}] == [first, second]
