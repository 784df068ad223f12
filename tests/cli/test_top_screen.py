"""``cats top`` sorts, scrolls and filters by keys, and fits its terminal."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.cli.assignments import Selection
from controlplane.cli.top_screen import KEYS, Screen, build_lines


def make_overview(instances: int = 500) -> dict[str, Any]:
    """Return the overview of a large fleet with long names."""
    return {
        "at": 100.0, "frozen": False, "mode": "steer", "config": {"ok": True},
        "plan": {"version": "0123456789abcdef", "held": False},
        "sites": [
            {
                "name": f"metropolitan-edge-{n:02}", "kind": "edge", "running": 1e4, "waiting": 0.0,
                "slots": 64.0, "envoys": 20, "lagging": 0, "power": 123456.0,
                "phases": {"live": 10, "quarantined": 2},
            }
            for n in range(50)
        ],
        "instances": [
            {
                "name": f"inference-server-of-edge-{n:03}",
                "site": f"metropolitan-edge-{n % 50:02}",
                "phase": "live", "reason": "because " * 20, "running": float(n), "waiting": None,
                "planned": n / 1000, "latency": 0.25, "age": 1.0, "confidence": 1.0,
                "rate": 1030.0 + n, "failures": 0.0,
            }
            for n in range(instances)
        ],
        "flows": {
            f"service-{s:02}": [
                {
                    "from": f"metropolitan-edge-{n:02}", "rate": 10.0 * n,
                    "to": [[f"inference-server-of-edge-{i:03}", 0.2] for i in range(5)],
                }
                for n in range(50)
            ]
            for s in range(20)
        },
        "latency": {}, "canaries": [], "refusals": [], "gone": {"count": 0},
    }  # fmt: skip


OVERVIEW = make_overview()


def press(screen: Screen, *keys: str) -> list[str]:
    """Press keys; return the rows that are shown then."""
    for key in keys:
        assert screen.press(key, page=18)
    return build_lines(OVERVIEW, screen, width=120, height=24)[3:-1]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 10)])
@pytest.mark.parametrize("view", ["1", "2", "3"])
def test_it_fits_its_terminal(view: str, width: int, height: int) -> None:
    """In every view, with the keys in the last line and no number in powers of ten."""
    screen = Screen()
    screen.press(view)
    lines = build_lines(OVERVIEW, screen, width=width, height=height)

    assert height == len(lines)
    assert max(map(len, lines)) <= width
    assert lines[-1] == KEYS[:width]
    assert "e+" not in "".join(lines)


def test_at_80_columns_every_figure_of_an_instance_is_whole() -> None:
    """Names are shortened and reasons left out; figures are whole or not there."""
    lines = build_lines(OVERVIEW, Screen(), width=80, height=24)

    assert lines[2].split()[:9] == [
        "instance", "site", "phase", "run", "wait", "load", "req/s", "ms", "fail",
    ]  # fmt: skip
    assert lines[3].split()[2:9] == ["live", "0", "-", "0%", "1030", "250", "0.0%"]


def test_keys_sort_by_each_column_and_reverse() -> None:
    """Figures come largest first, names in order."""
    screen = Screen()
    by_name = press(screen)
    by_run = press(screen, "s", "s", "s")
    reversed_ = press(screen, "r")

    assert "edge-000" in by_name[0].replace("…", "")
    assert "499" in by_run[0]
    assert "of-edge-000" in reversed_[0] or "-000" in reversed_[0]


def test_keys_scroll_within_the_rows() -> None:
    """Neither above the first nor below the last."""
    screen = Screen()
    first = press(screen)

    assert first == press(screen, "up", "page up", "home")
    assert press(screen, "down")[0] == first[1]
    assert "-499" in press(screen, "end", "down", "page down")[-1]
    assert first == press(screen, "home")


def test_a_filter_is_typed_and_cleared() -> None:
    """It holds for every cell; q is a letter while it is typed."""
    screen = Screen()
    found = press(screen, "/", *"EDGE-49", "enter")
    status = build_lines(OVERVIEW, screen, width=120, height=24)[1]
    cleared = press(screen, "escape")

    assert all("-49" in row for row in found if row)
    assert "1-19 of 19" in status  # ten of that site, and ten of that name
    assert "filter 'EDGE-49'" in status
    assert len(cleared) == len(press(screen))
    assert screen.press("/")
    assert screen.press("q")
    assert "q" == screen.filter


def test_q_ends_it_and_tab_goes_through_the_views() -> None:
    """After three times it is where it began."""
    screen = Screen()
    views = []
    for _ in range(3):
        views.append(screen.view)
        screen.press("tab")

    assert ["instances", "pairs", "sites"] == views
    assert "instances" == screen.view
    assert not screen.press("q")


def test_a_selection_leaves_out_the_rest() -> None:
    """One service and one client site are one row."""
    screen = Screen(selection=Selection("service-03", "metropolitan-edge-07"), view="pairs")

    rows = [row for row in press(screen) if row]

    assert 1 == len(rows)
    assert rows[0].startswith("service-03")
