"""What holds for every test."""

from __future__ import annotations

import asyncio


def pytest_configure() -> None:
    """Say that the main thread has no event loop.

    Without this, the asyncio plugin asks for the present one before its first test, CPython makes
    one to answer, and no one closes it, which ends the run with a ResourceWarning.
    """
    asyncio.set_event_loop(None)
