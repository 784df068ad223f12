"""Overrides made while running: what is taken, kept, applied and ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.admin_api.documents import encode_overrides
from controlplane.config import Config
from controlplane.controller.override_requests import OverrideError, describe, parse_request
from controlplane.controller.overrides import MOST, OverrideStore
from testbed.fakes.fleets import make_config

CONFIG = make_config()


def body(**fields: Any) -> bytes:
    """Return a request's body: a drain of north-a unless *fields* say otherwise."""
    base = {"instance": "north-a", "drain": True, "for": "10m", "reason": "driver", "by": "ann"}
    merged = {**base, **fields}
    return json.dumps({k: v for k, v in merged.items() if v is not None}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"no json", "not JSON", id="no JSON"),
        pytest.param(body(reason=None), "reason: is missing", id="no reason"),
        pytest.param(body(by=None), "by: is missing", id="no one"),
        pytest.param(body(reason="x" * 301), "at most 300", id="a novel"),
        pytest.param(body(**{"for": None}), "for: is missing", id="for ever"),
        pytest.param(body(**{"for": "90d"}), "for", id="too long"),
        pytest.param(body(**{"for": 0}), "for", id="no time"),
        pytest.param(body(instance="north-x"), "did you mean 'north-", id="misspelt"),
        pytest.param(body(service="chart"), "did you mean 'chat'?", id="misspelt service"),
        pytest.param(body(instance=None), "neither instance nor site", id="nowhere"),
        pytest.param(body(site="cloud"), "is at 'north'", id="elsewhere"),
        pytest.param(body(drain=None), "has no effect", id="nothing"),
        pytest.param(body(pin=True), "contradicts", id="drain and pin"),
        pytest.param(
            body(drain=None, min_share=0.6, max_share="50%"), "more than max_share", id="crossed"
        ),
        pytest.param(body(colour="red"), "colour: is no key", id="unknown key"),
    ],
)
def test_a_wrong_override_is_reported_with_its_remedy(content: bytes, message: str) -> None:
    """Nothing is half done."""
    with pytest.raises(OverrideError, match=message.replace("?", r"\?")):
        parse_request(content, CONFIG)


def test_what_stands_is_applied_and_ends_by_itself() -> None:
    """It does what an override of the file does, for its time."""
    store = OverrideStore()
    made = store.add(parse_request(body(max_share=None), CONFIG), unix_now=1000.0)

    (applied,) = store.apply(CONFIG).overrides
    assert ("north-a", True, "driver") == (applied.instance, applied.drain, applied.reason)
    assert () == store.expire(unix_now=1599.0)
    assert (made,) == store.expire(unix_now=1600.0)
    assert CONFIG is store.apply(CONFIG)


def test_one_that_names_what_is_gone_waits_without_effect() -> None:
    """A reloaded file without that instance is taken; the override is shown until its end."""
    store = OverrideStore()
    kept = store.add(parse_request(body(), CONFIG), unix_now=0.0)
    smaller = make_config(instances={"cloud-a": ("cloud", "10.2.0.1:8000")})

    assert () == store.apply(smaller).overrides
    assert [kept] == [*store.active]


def test_a_restart_takes_up_what_still_stands(tmp_path: Path) -> None:
    """Who, when and why survive; what is over does not."""
    before = OverrideStore(tmp_path)
    kept = before.add(parse_request(body(), CONFIG), unix_now=0.0)
    before.add(parse_request(body(instance="north-b", **{"for": "1m"}), CONFIG), unix_now=0.0)
    gone = before.add(parse_request(body(instance="cloud-a"), CONFIG), unix_now=0.0)
    before.remove(gone.id)

    after = OverrideStore(tmp_path)
    after.load(unix_now=100.0)

    assert (kept,) == after.active


def test_a_file_that_is_none_is_reported(tmp_path: Path) -> None:
    """A start without overrides is better than none, and says so."""
    (tmp_path / "overrides.json").write_text("[]", encoding="utf-8")
    with pytest.raises(OverrideError, match="cannot be read"):
        OverrideStore(tmp_path).load(unix_now=0.0)


def test_what_can_be_read_of_saved_overrides_is_kept(tmp_path: Path) -> None:
    """A drain outlives a key of another version; the file is kept beside the new one."""
    before = OverrideStore(tmp_path)
    drain = before.add(parse_request(body(max_share=None), CONFIG), unix_now=0.0)
    before.add(parse_request(body(instance="north-b"), CONFIG), unix_now=0.0)
    whole = before.add(parse_request(body(instance="cloud-a"), CONFIG), unix_now=0.0)
    path = tmp_path / "overrides.json"
    document = json.loads(path.read_text())
    document["overrides"][0]["override"]["weekends"] = True
    document["overrides"][1] = {"id": "2", "override": {"drain": "perhaps"}}
    path.write_text(json.dumps(document))

    after = OverrideStore(tmp_path)
    unread = after.load(unix_now=100.0)

    assert (drain, whole) == after.active
    assert f"override {drain.id}: unknown key 'weekends'" in unread
    assert any(words.startswith("override 1: ") for words in unread)
    assert document == json.loads((tmp_path / "overrides.unreadable").read_text())


def test_an_override_of_unknown_keys_alone_is_not_restored(tmp_path: Path) -> None:
    """What it was to do is not known, so it does nothing."""
    saved = {"instance": "north-a", "slow_down": True}
    entry = {"id": "1", "override": saved, "by": "ann", "since": 0, "expires": 1000}
    (tmp_path / "overrides.json").write_text(json.dumps({"overrides": [entry]}))

    store = OverrideStore(tmp_path)

    assert "no effect but unknown keys: slow_down" in store.load(unix_now=1.0)[0]
    assert () == store.active


def test_their_number_is_bounded() -> None:
    """A script that runs wild fills nothing."""
    store = OverrideStore()
    request = parse_request(body(), CONFIG)
    for _ in range(MOST):
        store.add(request, unix_now=0.0)
    with pytest.raises(OverrideError, match="are active already"):
        store.add(request, unix_now=0.0)
    with pytest.raises(OverrideError, match="no override 'x'"):
        store.remove("x")


def test_the_api_lists_those_of_the_file_too() -> None:
    """One list has all overrides that are in force."""
    config: Config = make_config(overrides=[{"site": "cloud", "max_share": 0.3, "service": "chat"}])
    (shown,) = encode_overrides(config, ())

    assert ("at most 30% at cloud for chat", "", None) == (
        shown["what"],
        shown["by"],
        shown["expires"],
    )
    assert "drain at north for every service" == describe(
        config.overrides[0].model_copy(
            update={"service": None, "site": "north", "max_share": None, "drain": True}
        )
    )


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86_400.0 * 400])
def test_a_wall_clock_that_is_set_ends_no_override(step: float, tmp_path: Path) -> None:
    """A drain of ten minutes lasts ten minutes, and is shown and saved with its new end."""
    store = OverrideStore(tmp_path)
    made = store.add(parse_request(body(), CONFIG), unix_now=10.0**9)

    def pass_to(now: float, unix_now: float) -> tuple[float, tuple[Any, ...]]:
        return store.follow_clock(unix_now=unix_now, now=now), store.expire(unix_now=unix_now)

    assert (0.0, ()) == pass_to(5.0, 10.0**9 + 5)
    assert (step, ()) == pass_to(6.0, 10.0**9 + 6 + step)
    assert (0.0, ()) == pass_to(599.0, 10.0**9 + 599 + step)
    (shown,) = store.active
    assert made.expires + step == shown.expires
    again = OverrideStore(tmp_path)
    again.load(unix_now=10.0**9 + 599 + step)
    assert (shown,) == again.active
    assert (0.0, (shown,)) == pass_to(601.0, 10.0**9 + 601 + step)


def test_a_clock_that_is_slewed_changes_nothing() -> None:
    """Nor do the milliseconds between two readings."""
    store = OverrideStore()
    made = store.add(parse_request(body(), CONFIG), unix_now=1000.0)

    for second in range(100):
        assert 0.0 == store.follow_clock(unix_now=1000.0 + second * 1.04, now=float(second))
    assert (made,) == store.active


def test_an_override_in_force_outlives_replicas_clocks() -> None:
    """What the replicas share has the instants from before the clock was set."""
    store, other = OverrideStore(), OverrideStore()
    made = store.add(parse_request(body(), CONFIG), unix_now=1000.0)
    shared = store.encode()
    store.follow_clock(unix_now=1000.0, now=0.0)
    store.follow_clock(unix_now=4601.0, now=1.0)

    adopted = store.adopt(shared, unix_now=4601.0)
    other.adopt(shared, unix_now=4601.0)

    assert ((), ()) == (adopted.added, adopted.removed)
    assert [made.id] == [item.id for item in store.active]
    assert () == other.active
