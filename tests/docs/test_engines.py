"""Every engine has a page that says what it needs and what is read of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from controlplane.config import Engine
from controlplane.telemetry.engines import DIALECTS
from controlplane.telemetry.engines.machine import MACHINE

DOCS = Path(__file__).parents[2] / "docs" / "engines"
PAGES = {engine: engine.value for engine in Engine} | {Engine.EPP: "endpoint-picker"}
_OF_THE_MACHINE = {rule.signal for rule in MACHINE}


@pytest.mark.parametrize("engine", list(Engine))
def test_its_page_lists_the_signals_that_are_read(engine: Engine) -> None:
    """With the name of today, from the very table that reads."""
    page = (DOCS / f"{PAGES[engine]}.md").read_text(encoding="utf-8")

    for rule in DIALECTS[engine].rules:
        if rule.signal in _OF_THE_MACHINE and rule.aliases[0].name.startswith("cats_"):
            continue
        assert f"| `{rule.signal.value}` | `{rule.aliases[0].name}`" in page, rule.signal


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_has_what_is_needed_missing_and_defect(page: Path) -> None:
    """And its examples are YAML that the control plane, or compose, would take."""
    text = page.read_text(encoding="utf-8")

    blocks = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        assert isinstance(yaml.safe_load(block), dict)
    if page.stem != "nothing-to-scrape":
        for heading in ("## Signals that are read", "## Without them", "## Known defects"):
            assert heading in text
