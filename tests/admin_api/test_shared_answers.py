"""What many ask for at a time is made once, and never before it was asked for."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.admin_api.shared_answers import SharedAnswers


class Maker:
    """Makes numbered answers when it is let."""

    def __init__(self) -> None:
        self.made = 0
        self.go = asyncio.Event()

    async def make(self) -> bytes:
        """Return the number of this answer."""
        self.made += 1
        number = self.made
        await self.go.wait()
        return b"%d" % number


async def test_all_who_ask_while_one_is_made_share_the_next() -> None:
    """Two answers for a hundred clients; of another kind it is another one."""
    answers, maker, other = SharedAnswers(), Maker(), Maker()
    first = asyncio.create_task(answers.get("plan", maker.make))
    while not maker.made:  # noqa: ASYNC110 -- it begins in another turn
        await asyncio.sleep(0)
    later = [asyncio.create_task(answers.get("plan", maker.make)) for _ in range(99)]
    apart = asyncio.create_task(answers.get("fleet", other.make))
    await asyncio.sleep(0)
    maker.go.set()
    other.go.set()

    assert b"1" == await first
    assert {b"2"} == set(await asyncio.gather(*later))
    assert b"1" == await apart
    assert b"3" == await answers.get("plan", maker.make)


async def test_a_client_that_leaves_ends_the_answer_of_no_other() -> None:
    """Not even the one that asked first."""
    answers, maker = SharedAnswers(), Maker()
    first, second = (asyncio.create_task(answers.get("plan", maker.make)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    maker.go.set()

    assert b"1" == await second
    assert first.cancelled() or first.cancelling()


async def test_an_error_is_everyones_and_the_next_answer_is_made() -> None:
    """As of a name that is not known."""
    answers = SharedAnswers()

    async def fail() -> bytes:
        raise LookupError("no such service")

    failed = await asyncio.gather(
        *(answers.get("x", fail) for _ in range(3)), return_exceptions=True
    )
    assert ["no such service"] * 3 == [str(each) for each in failed]
    maker = Maker()
    maker.go.set()
    assert b"1" == await answers.get("x", maker.make)


@pytest.mark.parametrize("leave", [True, False])
async def test_nothing_is_kept_of_what_was_made(leave: bool) -> None:
    """Names that clients make up fill no memory."""
    answers, maker = SharedAnswers(), Maker()
    tasks = [asyncio.create_task(answers.get(f"q={n}", maker.make)) for n in range(50)]
    await asyncio.sleep(0)
    if leave:
        for task in tasks:
            task.cancel()
    maker.go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(60):
        while answers.kinds:  # noqa: ASYNC110 -- they end in turns of their own
            await asyncio.sleep(0)
