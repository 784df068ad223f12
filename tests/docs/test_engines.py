"""Every engine has a page that says what it needs and what is read of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from controlplane.config import Engine, parse_config
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


def _blocks(page: Path, key: str) -> list[dict[str, Any]]:
    """Return the YAML examples of a page that have *key*."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for block in map(yaml.safe_load, found) if key in block]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_its_instances_are_taken_by_the_control_plane(page: Path) -> None:
    """As they stand, with the sites and models that they name."""
    blocks = _blocks(page, "instances")
    assert blocks
    for block in blocks:
        instances = block["instances"]
        models = {each["model"] for each in instances if "model" in each}
        document = {
            "version": 1,
            "sites": [{"name": each, "kind": "cloud"} for each in {i["site"] for i in instances}],
            "models": [{"name": name} for name in sorted(models)],
            "services": [
                {"name": "s", "match": [{"path": "/v1/x"}], "models": [{"name": min(models)}]}
            ],
            **block,
        }
        parse_config(yaml.safe_dump(document), file=page.name)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_its_compose_file_is_one(page: Path) -> None:
    """An image, a command of words, and published ports, of which one is what is scraped."""
    instances = [each for block in _blocks(page, "instances") for each in block["instances"]]
    for block in _blocks(page, "image") + [
        service for each in _blocks(page, "services") for service in each["services"].values()
    ]:
        assert re.fullmatch(r"[\w./-]+:[\w.-]+", block["image"])
        assert all(isinstance(word, str) and word for word in block.get("command", []))
        ports = [str(port).split(":") for port in block["ports"]]
        assert all(len(pair) == 2 and all(part.isdigit() for part in pair) for pair in ports)
        reached = {each["address"].rpartition(":")[2] for each in instances}
        reached |= {str(urlsplit(i["scrape"]["url"]).port) for i in instances if "scrape" in i}
        assert not reached or reached & {inside for _, inside in ports}
