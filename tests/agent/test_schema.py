"""An agent's configuration: every fault at once, each with its place."""

from __future__ import annotations

import dataclasses

import pytest

from controlplane import config
from controlplane.agent import parse, schema, settings
from controlplane.agent.parse import parse_agent_config
from controlplane.agent.settings import ProbeKind
from controlplane.config import Engine
from controlplane.config.schema.values import Settings
from controlplane.errors import ConfigError

GOOD = """\
version: 1
id: north-1
site: north
control_planes:
  - {address: "cp.example.net:18000", tls: {ca: ca.pem}, token_file: token}
instances:
  - {name: north-a, engine: vllm, scrape: {url: "http://127.0.0.1:8000/metrics"}, gpus: [0]}
discover: {ports: [8080], name: "north-{port}"}
machine:
  exporters: [{kind: dcgm, scrape: {url: "http://127.0.0.1:9400/metrics"}}]
training: {processes: ["torchrun"]}
probes:
  targets: [{site: cloud, address: "10.0.0.1:10000", kind: http}]
orca: [{instance: north-a, address: "127.0.0.1:19001"}]
api: {}
"""


def test_a_whole_configuration_is_read_in_si_units() -> None:
    """Every section has defaults that work."""
    read = parse_agent_config(GOOD, file="agent.yaml")

    assert ("north-1", "north", 1.0, 25.0) == (
        read.id,
        read.site,
        read.period,
        read.buffer,
    )
    assert Engine.VLLM is read.instances[0].engine
    assert (ProbeKind.HTTP, 5.0) == (read.probes.targets[0].kind, read.probes.period)
    assert read.api is not None
    assert "127.0.0.1:18090" == read.api.address


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        pytest.param("site: north\n", "", "agent.yaml:1:1: site", "missing", id="missing"),
        pytest.param("period", "perjod", "", "", id="untouched"),
        pytest.param("engine: vllm", "engine: vlm", "instances[0].engine", "vllm", id="engine"),
        pytest.param("gpus: [0]", "gpu: [0]", "instances[0].gpu", "gpus", id="misspelt"),
        pytest.param("cp.example.net:18000", "cp", "control_planes[0].address", "HOST:PORT",
                     id="address"),
        pytest.param("torchrun", "(", "training.processes[0]", "regular expression", id="pattern"),
        pytest.param("{site: cloud", "{site: north", "probes.targets[0].site", "own site",
                     id="own_site"),
        pytest.param("{instance: north-a", "{instance: zz", "", "", id="discovered_may_come"),
        pytest.param('"north-{port}"', '"north-{zone}"', "discover.name", "{port}", id="template"),
        pytest.param("{ca: ca.pem}", "{cert: c.pem}", "control_planes[0].tls", "both", id="pair"),
    ],
)  # fmt: skip
def test_a_fault_names_its_place_and_the_remedy(old: str, new: str, place: str, words: str) -> None:
    """The same form as for the fleet's configuration."""
    text = GOOD.replace(old, new)
    if not place:
        parse_agent_config(text, file="agent.yaml")
        return
    with pytest.raises(ConfigError) as caught:
        parse_agent_config(text, file="agent.yaml")

    (fault,) = map(str, caught.value.faults)
    assert place in fault
    assert words in fault


def test_all_faults_are_reported_at_once() -> None:
    """No one fixes a file one run at a time."""
    text = GOOD.replace("version: 1", "version: 2").replace("vllm", "zz").replace("dcgm", "yy")

    with pytest.raises(ConfigError) as caught:
        parse_agent_config(text, file="agent.yaml")

    assert 3 == len(caught.value.faults)


CLASSES = [
    model
    for model in (*vars(schema).values(), config.MetricsPage)
    if isinstance(model, type) and issubclass(model, Settings) and hasattr(settings, model.__name__)
]


@pytest.mark.parametrize("model", sorted({*CLASSES}, key=str), ids=lambda model: model.__name__)
def test_what_the_file_may_say_is_what_the_agent_has(model: type[Settings]) -> None:
    """Field by field, with the same defaults."""
    values = getattr(settings, model.__name__)
    fields = {one.name: one for one in dataclasses.fields(values)}

    assert model.model_fields.keys() == fields.keys()
    for name, field in model.model_fields.items():
        if field.is_required():
            continue
        ours = fields[name]
        default = (
            ours.default_factory()
            if ours.default_factory is not dataclasses.MISSING
            else ours.default
        )
        assert parse._plain(field.get_default(call_default_factory=True)) == default, name


def test_every_part_of_the_file_has_its_values() -> None:
    """None is passed on as what read it."""
    unread = [
        name
        for name, model in vars(schema).items()
        if isinstance(model, type)
        and issubclass(model, Settings)
        and model is not Settings
        and not hasattr(settings, name)
    ]

    assert [] == unread
