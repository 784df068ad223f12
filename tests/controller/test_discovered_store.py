"""What was discovered, kept over a restart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.config import DiscoveredInstance, Instance, Site
from controlplane.controller.discovered_store import FILE_NAME, DiscoveredStore
from controlplane.controller.state_file import StateError

INSTANCE = Instance.model_validate(
    {
        "name": "a",
        "site": "north",
        "address": "10.0.0.1:8000",
        "model": "m",
        "engine": "vllm",
        "slots": 3,
        "service_time": "1500ms",
        "scrape": {"url": "http://10.0.0.1:8000/metrics", "period": "250ms", "timeout": "200ms"},
        "orca": {"port": 9000},
        "power": {"idle": "100W", "busy": "1kW"},
    }
)


def test_what_is_saved_is_read_as_it_was(tmp_path: Path) -> None:
    """Every quantity passes the door that the file's quantities pass, and is the same behind it."""
    file = DiscoveredStore(tmp_path / "state")
    place = Site.model_validate({"name": "north", "kind": "edge", "region": "eu", "zone": "z"})
    found = (DiscoveredInstance("r", INSTANCE, place),)
    file.save(found, rules=["r", "empty"])
    loaded = file.load()

    assert loaded is not None
    assert (found, {"r", "empty"}) == (loaded.found, set(loaded.rules))


def test_what_nobody_said_is_not_said_after_a_restart_either(tmp_path: Path) -> None:
    """Slots by default are learned; those that were written are believed."""
    bare = Instance.model_validate(
        {"name": "a", "site": "north", "address": "10.0.0.1:8000", "model": "m"}
    )
    file = DiscoveredStore(tmp_path / "state")
    file.save((DiscoveredInstance("r", bare),), rules=["r"])
    loaded = file.load()

    assert loaded is not None
    assert "slots" not in loaded.found[0].instance.model_fields_set


def test_nothing_saved_is_nothing(tmp_path: Path) -> None:
    """The first start."""
    assert DiscoveredStore(tmp_path).load() is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no object"),
        pytest.param('{"format": 2, "rules": [], "found": []}', id="another format"),
        pytest.param('{"format": 1, "found": []}', id="no rules"),
        pytest.param("[" * 100_000, id="too deep"),
    ],
)
def test_a_broken_file_is_reported_with_its_name(content: str, tmp_path: Path) -> None:
    """And nothing of it is believed."""
    (tmp_path / FILE_NAME).write_text(content)

    with pytest.raises(StateError, match=FILE_NAME):
        DiscoveredStore(tmp_path).load()


def test_a_saved_instance_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    """Neither half an instance nor one that the configuration would reject is believed."""
    file = DiscoveredStore(tmp_path)
    file.save([DiscoveredInstance("r", INSTANCE)] * 3, rules=["r"])
    document = json.loads(file.path.read_text())
    document["found"][0]["instance"]["address"] = "not an address"
    document["found"][1]["instance"] = {"name": "a"}
    file.path.write_text(json.dumps(document))

    saved = file.load()

    assert saved is not None
    assert (DiscoveredInstance("r", INSTANCE),) == saved.found
    assert ["instance 0", "instance 1"] == [words.split(":")[0] for words in saved.unread]
