"""Files of what is kept in memory: restored as far as they can be read, and the rest set aside."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from controlplane.admin_api.moments import Moments, pack
from controlplane.controller.history import History, Query, pack_sample
from controlplane.runtime.kept_files import inflate_json, instant_of, restore_kept, save_kept

SAMPLE: dict[str, Any] = {"plan": "v1", "services": {}, "pairs": {}, "instances": {}}


def make_history(*ats: float) -> History:
    """Return a history with a sample at each of *ats*."""
    history = History()
    for at in ats:
        history.add(*pack_sample({**SAMPLE, "at": at}))
    return history


def make_moments(*ats: float) -> Moments:
    """Return moments of *ats*."""
    moments = Moments()
    for at in ats:
        moments.add(pack({"at": at, "shares": {}}))
    return moments


KINDS = [pytest.param(make_history, id="history"), pytest.param(make_moments, id="moments")]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[:-5], id="cut"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda content: content.replace(b" 1\n", b" 9\n", 1), id="of another version"),
        pytest.param(lambda content: content[:40] + b"\xff" + content[41:], id="flipped"),
        pytest.param(lambda _: os.urandom(5000), id="noise"),
    ],
)
def test_what_cannot_be_read_is_kept_beside_the_next_save(
    make: Any, damage: Any, tmp_path: Path
) -> None:
    """Whatever is wrong with it: the file is named, and a copy outlives what replaces it."""
    kept = make(*(1000.0 + 5 * n for n in range(20)))
    save_kept(kept.file, kept.encode(), tmp_path)
    path = tmp_path / kept.file.name
    content = damage(path.read_bytes())
    path.write_bytes(content)
    again = make()

    reason = restore_kept(again, tmp_path)
    save_kept(again.file, again.encode(), tmp_path)

    aside = path.with_suffix(".unreadable")
    assert reason.startswith(f"{kept.file.name}: ")
    assert reason.endswith(f"set aside as {aside.name}")
    assert content == aside.read_bytes()
    assert "" == restore_kept(make(), tmp_path)


@pytest.mark.parametrize("make", KINDS)
def test_a_good_file_is_not_copied(make: Any, tmp_path: Path) -> None:
    """Nor is one that is not there."""
    kept = make(1000.0, 1005.0)
    assert "" == restore_kept(make(), tmp_path)
    save_kept(kept.file, kept.encode(), tmp_path)

    assert "" == restore_kept(make(), tmp_path)
    assert [kept.file.name] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("what", ["a FIFO", "a directory"])
def test_what_is_no_file_is_named_and_left_alone(make: Any, what: str, tmp_path: Path) -> None:
    """Without waiting for a writer."""
    kept = make()
    path = tmp_path / kept.file.name
    os.mkfifo(path) if what == "a FIFO" else path.mkdir()

    assert f"{kept.file.name}: it is {what}, not a regular file" == restore_kept(kept, tmp_path)
    assert [path] == [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        json.dumps({"at": float("nan")}),
        json.dumps({"at": float("inf")}),
        json.dumps({"at": "soon"}),
        json.dumps({"at": None}),
        json.dumps([1.0]),
        json.dumps({}),
    ],
)
def test_a_document_without_an_instant_is_an_error_of_its_content(text: str) -> None:
    """One in the year 3000 would keep all others out."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        instant_of(inflate_json(zlib.compress(text.encode()), 10**6))


@pytest.mark.parametrize("back", [7.0, 70.0, 3600.0, 86_400.0 * 400])
def test_a_clock_that_is_set_back_stops_no_recording(back: float) -> None:
    """The next sample is due at once; what lies in the future goes, what lies before stays."""
    ats = [10.0**9 + 5 * n for n in range(100)]
    history, moments = make_history(*ats), make_moments(*ats)
    now = ats[-1] - back

    assert history.due(now)
    assert moments.due(now)
    for n in range(3):
        history.add(*pack_sample({**SAMPLE, "at": now + 5 * n}))
        moments.add(pack({"at": now + 5 * n, "shares": {}}))

    seen = history.query(Query())()["at"]
    reach = moments.reach
    assert reach is not None
    assert now + 10 == max(seen) == reach[1]
    assert sorted(seen) == seen
    kept = [at for at in ats if at < now - 5]
    assert set(kept) <= set(seen)
    found = moments.nearest(ats[0])()
    assert found is not None
    assert (ats[0] if kept else now + 10) == found["at"]


@pytest.mark.parametrize("forward", [3600.0, 86_400.0 * 400])
def test_a_clock_that_is_set_forward_and_back_costs_what_it_aged(forward: float) -> None:
    """And no gap after it."""
    history, moments = make_history(1e9, 1e9 + 5), make_moments(1e9, 1e9 + 5)
    for at in (1e9 + forward, 1e9 + forward + 5, 1e9 + 15, 1e9 + 20):
        assert history.due(at)
        assert moments.due(at)
        history.add(*pack_sample({**SAMPLE, "at": at}))
        moments.add(pack({"at": at, "shares": {}}))

    assert [1e9 + 15, 1e9 + 20] == history.query(Query())()["at"][-2:]
    reach = moments.reach
    assert reach is not None
    assert 1e9 + 20 == reach[1]
