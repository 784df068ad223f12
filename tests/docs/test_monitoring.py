"""Alerts and the Grafana dashboard name what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from controlplane.controller.metrics import Metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
SUFFIXES = ("_bucket", "_sum", "_count")


def known() -> set[str]:
    """Return every name that `/metrics` can have."""
    names = set()
    for family in Metrics().registry.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        names.add(family.name + suffix)
        if family.type == "histogram":
            names |= {family.name + suffix for suffix in SUFFIXES}
    return names


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    text = (MONITORING / "alerts.yaml").read_text(encoding="utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def expressions() -> Iterator[str]:
    """Return everything that Prometheus would be asked."""
    yield from (rule["expr"] for rule in rules())
    board = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (item["query"] for item in board["templating"]["list"])


def test_every_metric_that_is_asked_for_exists() -> None:
    """A renamed metric would leave an alert that never fires."""
    asked = {name for text in expressions() for name in re.findall(r"\bcats_\w+", text)}
    assert len(asked) > 15
    assert set() == asked - known()


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    """And the runbook has no entry for an alert that is gone."""
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    titles = set(re.findall(r"^## (\w+)", runbook, re.MULTILINE))
    assert titles == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert f"docs/runbook.md#{rule['alert'].lower()}" == rule["annotations"]["runbook"]
