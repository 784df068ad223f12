"""Nearly equal instances are one line, and few lines show many: nothing is lost or averaged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from controlplane.cli import cats
from controlplane.cli.alike import FEW, LEAST, MOST, NEAR, group_alike, most_used, rest_words
from controlplane.cli.assignments import explanation_lines
from controlplane.cli.explain import canary_words, split_words
from testbed.fakes.large_fleets import make_crowd

LONG = "inference-pool-llama-3-1-70b-instruct-fp8-7d9f8b6c5-{:05}x"


def used(name: str, share: float, *, site: str = "north", **fields: Any) -> dict[str, Any]:
    """Return an instance that gets *share*, as ``/api/v1/explain`` has it."""
    queueing = fields.pop("queueing", 0.002)
    return {
        "instance": name, "site": site, "share": share, "weight": round(share * 10_000),
        "priority": 0, "previous_share": share, "confidence": 0.9, "arrival_rate": 10.0,
        "capacity": 20.0, "limits": [], "sources": {"rtt": "default", "capacity": "learned"},
        "terms": {"rtt": 0.001, "service": 0.2, "queueing": queueing},
        "predicted_latency": 0.201 + queueing, "marginal_cost": 0.201 + queueing,
    } | fields  # fmt: skip


def document(items: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Return an explanation of *items*."""
    return {"instances": items, "excluded": [], **fields}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ["i-{:04}", LONG])
@pytest.mark.parametrize("count", [50, 1000])
def test_equal_instances_are_one_line_however_many(count: int, name: str, width: int) -> None:
    """With the figures of one of them, and the word that shows each."""
    items = [used(name.format(n), 1 / count * (1 + n % 3 / 50)) for n in range(count)]
    lines = explanation_lines(document(items), width)
    text = " ".join(lines)

    assert 8 >= len(lines)
    assert width >= max(map(len, lines))
    assert f"{count} x " in text
    assert "--each shows every instance" in text


@pytest.mark.parametrize("width", [80, 120])
def test_many_that_differ_are_summed_up_and_shown_one_by_one_on_request(width: int) -> None:
    """A thousand unequal ones: those with most of the requests, and what the others get."""
    whole = sum(range(1, 1001))
    items = [
        used(f"i-{n:04}", n / whole, queueing=(n * 7919 % 1000) / 100, previous_share=n / whole)
        for n in range(1, 1001)
    ]
    lines = explanation_lines(document(items), width)
    every = explanation_lines(document(items), width, each=True)

    assert 3 * MOST >= len(lines)
    assert any(line.startswith("and ") and " more with " in line for line in lines)
    assert len(items) <= sum(line.startswith("i-") for line in every)
    assert not any(" x " in line or "--each" in line for line in every)


@pytest.mark.parametrize("width", [80, 120])
def test_few_instances_have_a_line_each(width: int) -> None:
    """Of a small fleet an operator knows every name."""
    items = [used(f"i-{n}", 1 / FEW) for n in range(FEW)]
    lines = explanation_lines(document(items), width)

    assert all(any(line.startswith(item["instance"]) for line in lines) for item in items)
    assert not any(" x " in line or "--each" in line for line in lines)


@pytest.mark.parametrize(
    "other",
    [
        {"site": "cloud"},
        {"limits": ["max_share 30%"]},
        {"sources": {"rtt": "probe", "capacity": "prior"}},
        {"previous_share": 0.2},
        {"confidence": 0.2},
        {"arrival_rate": 18.0},
        {"queueing": 0.05},
        {"share": 0.2},
    ],
)
def test_what_differs_in_one_figure_stays_apart(other: dict[str, Any]) -> None:
    """One of forty that is elsewhere, limited, assumed, moved, hardly known, loaded or slow."""
    items = [used(f"i-{n:02}", 0.02) for n in range(40)]
    items[17] = used("i-17", **({"share": 0.02} | other))
    groups = group_alike(items)

    assert [1, 39] == sorted(len(group.items) for group in groups)
    assert "i-17" in [group.shown["instance"] for group in groups]


def test_a_limit_that_differs_by_its_number_is_the_same() -> None:
    """`probe with 0.31/s` and `0.29/s` are one kind of limit."""
    items = [used(f"i-{n:02}", 0.02, limits=[f"probed with 0.{n + 20}/s"]) for n in range(40)]

    assert [40] == [len(group.items) for group in group_alike(items)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.001, 0.01, 0.0105, 0.05, 1.0]),
            st.sampled_from(["north", "cloud"]),
            st.sampled_from([0.0, 0.001, 0.02, 0.021, 3.0]),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_every_instance_is_in_one_line_or_in_the_rest(
    given_items: list[tuple[float, str, float, bool]],
) -> None:
    """Groups are of near shares, and groups, their sizes and the rest make up the whole."""
    items = []
    for n, (share, site, queueing, explained) in enumerate(given_items):
        item = used(f"i-{n}", share, site=site, queueing=queueing)
        items.append(item if explained else {k: v for k, v in item.items() if k != "terms"})
    groups = group_alike(items)
    shown, rest = most_used(groups)

    names = [item["instance"] for group in shown for item in group.items]
    names += [item["instance"] for item in rest]
    assert sorted(item["instance"] for item in items) == sorted(names)
    assert MOST >= len(shown)
    for group in groups:
        shares = [item["share"] for item in group.items]
        assert max(shares) - min(shares) <= max(0.0005, NEAR * max(shares))
        assert len(shares) == 1 or len(shares) >= LEAST
        assert group.shown in group.items
    assert not rest or f"and {len(rest)} more with " in rest_words(rest)


def test_states_that_differ_in_age_are_one_line() -> None:
    """A site whose instances fell silent within a minute of each other fills no screen."""
    states = [
        {"instance": f"i-{n:02}", "phase": "expired", "since": 20.0 + n,
         "reason": f"silent for {50 + n} s", "awaited": "a report", "disbelieved": []}
        for n in range(30)
    ]  # fmt: skip
    failing = [
        {"instance": f"i-{n:02}", "service": "chat", "probability": 0.5 + n / 100,
         "class": "server_error", "since": 3.0 + n, "awaited": "good answers"}
        for n in range(30)
    ]  # fmt: skip
    items = [used(f"i-{n:02}", 1 / 30) for n in range(30)]
    shown = " ".join(explanation_lines(document(items, states=states, failing=failing), 80))
    shown = " ".join(shown.split())

    assert "and 25 more: expired for 20 to 49 s: silent for 50 to 79 s; it awaits" in shown
    assert "and 25 more: fails 50 to 79% of its requests more" in shown


def test_a_proposed_split_of_many_names_the_largest() -> None:
    """In observe mode and for a canary's baseline; few are all named in their order."""
    few = [{"instance": name, "share": share, "priority": 0} for name, share in
           (("a", 0.2), ("b", 0.8))]  # fmt: skip
    many = [{"instance": f"i-{n}", "share": n / 1225, "priority": 0} for n in range(50)]
    canary = {
        "service": "chat", "from": "north", "policy": "optimal", "predicted_latency": 0.1,
        "standing": {"policy": "nearest", "predicted_latency": None, "instances": many},
    }  # fmt: skip

    assert "a 20.0%, b 80.0%" == split_words(few)
    assert split_words(many).startswith("i-49 4.0%, i-48 3.9%")
    assert split_words(many).endswith("and 40 more")
    assert "and 40 more" in canary_words(canary)
    assert 50 == len(canary_words(canary, every=True).split("it would be: ")[1].split(", i-"))


def test_the_document_is_of_every_instance(tmp_path: Path) -> None:
    """`--json` is what it was, `--each` is for people; a fifth of 250 runs the model."""
    file = tmp_path / "fleet.yaml"
    file.write_text(make_crowd(sites=1, instances=250, services=1))

    def plan(*words: str) -> str:
        result = CliRunner().invoke(cats, ["plan", "-c", str(file), *words], prog_name="cats")
        assert 0 == result.exit_code, result.output
        return result.stdout

    def shown(*words: str) -> int:
        return sum(
            bool(re.match(r" *instance-\d+ .*%", line)) for line in plan(*words).splitlines()
        )

    assert 50 == len(json.loads(plan("--json"))["explanations"][0]["instances"])
    assert 50 == shown("--each")
    assert 1 == shown()
