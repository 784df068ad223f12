"""Webhooks are called for the starts that plans want: bounded, with proof of who is called."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from controlplane.config import Config
from controlplane.controller.waker import ATTEMPTS, BURST, Waker
from controlplane.errors import ReportError
from controlplane.model import WakeReport
from controlplane.steering.plan import StartWish
from testbed.background import running_task, until
from testbed.fakes.certificates import Authority, server_context
from testbed.fakes.views import make_config, make_instance
from testbed.fakes.webhook import WebhookReceiver
from testbed.processes.ports import free_ports

WISH = StartWish(
    "z0", "near", "m", start_up=60.0, use=600.0, gain_least=2.0, gain_most=4.0, saves=1080.0,
    price=600.0, wanted=True,
)  # fmt: skip


def fleet(url: str | None, *, count: int = 1, mode: str = "steer", **wake: Any) -> Config:
    """Return a fleet whose instances are started by *url*."""
    settings = {"start_up": "60s", "url": url, **wake}
    return make_config(
        instances=[
            make_instance(f"z{n}", "near", address=f"10.0.0.{n + 1}:80", wake=settings)
            for n in range(count)
        ],
        steering={"mode": mode},
    )


@dataclass
class Outcome:
    """What a waker said."""

    waker: Waker
    reports: list[WakeReport] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def consider(self, wishes: list[StartWish], config: Config) -> None:
        """Pass on the wishes of a plan that is newer than every call so far."""
        self.waker.consider(wishes, config, at=math.inf)

    async def after(self, count: int) -> list[WakeReport]:
        """Wait for *count* reports and return them."""
        await until(lambda: len(self.reports) >= count)
        return self.reports


@contextlib.asynccontextmanager
async def waking(
    refuse: Callable[[WakeReport], None] = lambda _: None,
) -> AsyncIterator[Outcome]:
    """Run a waker; pauses between its tries are short."""
    reports: list[WakeReport] = []
    outcomes: list[str] = []

    def take(report: WakeReport) -> None:
        reports.append(report)
        refuse(report)

    waker = Waker(
        on_report=take,
        on_outcome=outcomes.append,
        clock=asyncio.get_running_loop().time,
        log=structlog.get_logger(),
        pause=0.01,
    )
    async with running_task(waker.run()):
        yield Outcome(waker, reports, outcomes)


async def test_a_wanted_start_calls_once_and_says_why() -> None:
    """The same wish while the call is under way is not another one; an unwanted one is none."""
    async with WebhookReceiver() as receiver, waking() as outcome:
        config = fleet(receiver.url)
        outcome.consider([replace(WISH, wanted=False)], config)
        outcome.consider([WISH], config)
        await asyncio.sleep(0)
        outcome.consider([WISH], config)
        (report,) = await outcome.after(1)

    assert ("z0", "") == (report.instance, report.error)
    assert ["accepted"] == outcome.outcomes
    (call,) = receiver.calls
    assert ("z0", "near", "m", 600.0) == tuple(
        call.document[key] for key in ("instance", "site", "model", "use")
    )
    assert "2.00 s of waiting each second" in call.document["reason"]
    assert not call.authorization


@pytest.mark.parametrize("mode", ["observe", "no url"])
async def test_no_one_is_called_without_a_url_or_while_operators_only_watch(mode: str) -> None:
    """The wish is shown all the same."""
    async with WebhookReceiver() as receiver, waking() as outcome:
        quiet = fleet(receiver.url, mode=mode) if mode == "observe" else fleet(None)
        outcome.consider([WISH], quiet)
        await asyncio.sleep(0.05)
        assert [] == receiver.calls
        outcome.consider([WISH], fleet(receiver.url))
        await outcome.after(1)


@pytest.mark.parametrize(
    ("statuses", "calls", "error"),
    [
        ([503, 429, 202], 3, ""),
        ([500] * 9, ATTEMPTS, "status 500"),
        ([401, 202], 1, "status 401"),
        ([307, 202], 1, "status 307"),
    ],
)
async def test_what_may_pass_is_tried_again_a_bounded_number_of_times(
    statuses: list[int], calls: int, error: str
) -> None:
    """What will not is tried once, and a redirect gets no credential."""
    async with WebhookReceiver(statuses=statuses) as receiver, WebhookReceiver() as other:
        receiver.location = other.url
        async with waking() as outcome:
            outcome.consider([WISH], fleet(receiver.url))
            (report,) = await outcome.after(1)
    assert error == report.error
    assert calls == len(receiver.calls)
    assert [] == other.calls


async def test_the_token_is_read_at_every_call(tmp_path: Path) -> None:
    """Someone else rotates it; without it no call is made."""
    token = tmp_path / "token"
    async with WebhookReceiver() as receiver, waking() as outcome:
        config = fleet(receiver.url, token_file=str(token))
        outcome.consider([WISH], config)
        await outcome.after(1)
        for text in ("first", "second"):
            token.write_text(text)
            before = len(outcome.reports)
            outcome.consider([WISH], config)
            await outcome.after(before + 1)

    assert ["Bearer first", "Bearer second"] == [each.authorization for each in receiver.calls]
    assert str(token) in outcome.reports[0].error
    assert "first" not in str(outcome.reports)


@pytest.mark.parametrize("trusted", [True, False])
async def test_only_the_server_that_the_authority_signed_is_called(
    tmp_path: Path, *, trusted: bool
) -> None:
    """And both sides show who they are."""
    authority, other = (Authority(tmp_path, name=name) for name in ("ours", "other"))
    pair, client = authority.issue("127.0.0.1"), authority.issue("cats")
    tls = server_context(pair, clients_of=authority.ca)
    async with WebhookReceiver(tls=tls) as receiver, waking() as outcome:
        ca = (authority if trusted else other).ca
        files: dict[str, Any] = {"ca": str(ca), "cert": str(client.cert), "key": str(client.key)}
        outcome.consider([WISH], fleet(receiver.url, **files))
        (report,) = await outcome.after(1)
    assert trusted == (not report.error)
    assert trusted == bool(receiver.calls)
    assert trusted or "certificate" in report.error


async def test_what_does_not_answer_is_a_failure_that_says_why() -> None:
    """Refused connections are tried again as well."""
    (port,) = free_ports(1)
    async with waking() as outcome:
        outcome.consider([WISH], fleet(f"http://127.0.0.1:{port}/wake"))
        (report,) = await outcome.after(1)
    assert f"connection refused by 127.0.0.1:{port}" in report.error
    assert ["failed"] == outcome.outcomes


async def test_a_webhook_that_hangs_is_given_up_after_the_timeout() -> None:
    """And delays no other one."""
    async with WebhookReceiver() as receiver, WebhookReceiver() as other, waking() as outcome:
        receiver.hangs = True
        outcome.consider([WISH], fleet(receiver.url, timeout="1s"))
        await until(lambda: receiver.calls)
        outcome.consider([replace(WISH, instance="z1")], fleet(other.url, count=2))
        first, second = await outcome.after(2)
    assert ("z1", "") == (first.instance, first.error)
    assert ("z0", "no answer within wake.timeout") == (second.instance, second.error)
    assert ATTEMPTS == len(receiver.calls)


async def test_many_starts_at_once_wait_for_their_turn() -> None:
    """A plan that wants everything at once does not start everything at once."""
    count = 3 * int(BURST)
    async with WebhookReceiver() as receiver, waking() as outcome:
        wishes = [replace(WISH, instance=f"z{n}") for n in range(count)]
        outcome.consider(wishes, fleet(receiver.url, count=count))
        await outcome.after(int(BURST))
        await asyncio.sleep(0.05)
        assert len(receiver.calls) < 2 * BURST


async def test_a_plan_of_a_fleet_seen_before_a_call_ended_does_not_know_of_the_start() -> None:
    """Deciding takes a while; what it came to then wants the start that has been taken."""
    async with WebhookReceiver() as receiver, waking() as outcome:
        config = fleet(receiver.url)
        outcome.consider([WISH], config)
        (report,) = await outcome.after(1)
        await asyncio.sleep(0.02)
        outcome.waker.consider([WISH], config, at=report.at)
        await asyncio.sleep(0.05)
        assert 1 == len(receiver.calls)
        outcome.consider([WISH], config)
        await outcome.after(2)


async def test_an_instance_that_is_gone_meanwhile_harms_nothing() -> None:
    """The next call is made all the same."""

    def refuse(_: WakeReport) -> None:
        raise ReportError("gone")

    async with WebhookReceiver() as receiver, waking(refuse) as outcome:
        for number in (1, 2):
            outcome.consider([WISH], fleet(receiver.url))
            await outcome.after(number)
            await asyncio.sleep(0.02)
    assert 2 == len(receiver.calls)
