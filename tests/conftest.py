"""What holds for every test."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from testbed.processes.grpc_clients import install_grpc_js

# How long an example takes says something of the machine; in CI the parent is derandomized.
settings.register_profile(
    "no clock", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no clock")


def pytest_configure() -> None:
    """Say that the main thread has no event loop.

    Without this, the asyncio plugin asks for the present one before its first test, CPython makes
    one to answer, and no one closes it, which ends the run with a ResourceWarning.
    """
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let output be as wide as it is without a terminal, whatever runs the tests says of one."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)


@pytest.fixture(scope="session")
def grpc_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install grpc-js from its lock, once for all workers; return the folder of its programs."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return install_grpc_js(shared / "grpc_js")
