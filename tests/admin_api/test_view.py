"""What the admin port shows is made where no stream waits for it."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane.admin_api import view
from controlplane.admin_api.live import LiveOverview
from controlplane.admin_api.view import AdminView
from controlplane.config.schema import Config
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.history import Query
from testbed.fakes import large_fleets
from testbed.fakes.fleets import make_config


@pytest.mark.parametrize(
    ("makers", "ask"),
    [
        (["encode_overview", "find_alerts"], lambda shown: shown.overview_document()),
        (["encode_overview", "key_overview", "pack"], lambda shown: shown.live_overview()),
        (["encode_fleet"], lambda shown: shown.fleet_document()),
        (["encode_plan"], lambda shown: shown.plan_document()),
        (["encode_room"], lambda shown: shown.room_document(None, None)),
        (["encode_envoys"], lambda shown: shown.envoys_document()),
        (["encode_instance_page"], lambda shown: shown.instance_document("north-a")),
        (["encode_explanation"], lambda shown: shown.explain_document("chat", "north")),
    ],
)
async def test_a_document_is_not_made_on_the_event_loop(
    makers: list[str],
    ask: Callable[[AdminView], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of a large fleet takes a tenth of a second; each part of it runs in another thread."""
    control = ControlPlane(make_config(), file=Path("fleet.yaml"), settle=0.0)
    await control.cycle.run_once()
    shown = AdminView(control)
    threads: dict[str, int] = {}

    def noting(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            threads[name] = threading.get_ident()
            return make(*args, **kwargs)

        return run

    for name in makers:
        monkeypatch.setattr(view, name, noting(name, getattr(view, name)))
    document = await ask(shown)
    control.close()

    assert document is not None
    assert set(makers) == threads.keys()
    assert threading.get_ident() not in threads.values()


async def test_history_and_moments_are_read_on_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A day of samples is much to go through."""
    control = ControlPlane(make_config(), file=Path("fleet.yaml"), settle=0.0)
    await control.cycle.run_once()
    shown = AdminView(control)
    threads: list[int] = []

    def made(*_: object) -> Callable[[], None]:
        return lambda: threads.append(threading.get_ident())

    monkeypatch.setattr(control.history, "query", made)
    monkeypatch.setattr(control.history, "nearest", made)
    monkeypatch.setattr(shown.moments, "nearest", made)
    await shown.history_document(Query(), None)
    await shown.history_document(Query(), 1.0)
    await shown.moment_document(1.0)
    control.close()

    assert 3 == len(threads)
    assert threading.get_ident() not in threads


async def test_a_page_of_500_instances_is_sent_little_each_second() -> None:
    """All of it once, then what changed: 60 kB a second, 10 kB of them on the wire."""
    now = 1000.0
    size = {"sites": 50, "instances": 500, "services": 20}
    config = Config.model_validate_json(large_fleets.make_crowd(**size))
    control = ControlPlane(config, file=Path("fleet.yaml"), settle=0.0, clock=lambda: now)
    shown, rng = AdminView(control), random.Random(7)
    seen: LiveOverview | None = None
    packer = zlib.compressobj(level=3, wbits=zlib.MAX_WBITS | 16)
    sent: list[tuple[int, int]] = []
    for _ in range(3):
        for report in large_fleets.make_reports(**size, at=now, rng=rng):
            control.receive(report)
        await control.cycle.run_once()
        live = await shown.live_overview()
        assert live is not None
        event, seen = live.event_after(seen), live
        packed = packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
        sent.append((len(event), len(packed)))
        now += 1.0
    control.close()
    whole, *_, last = sent

    assert whole[0] > 200_000
    assert (True, True) == (last[0] < 60_000, last[1] < 10_000), sent
