"""What a new configuration takes from Envoys at once."""

from __future__ import annotations

import pytest

from controlplane.config import Config
from controlplane.config.withdrawals import withdrawn
from testbed.fakes.fleets import make_config

PLACES = {
    "a": ("north", "10.0.0.1:1"),
    "b": ("north", "10.0.0.2:1"),
    "c": ("cloud", "10.0.0.3:1"),
}
BEFORE = make_config(instances=PLACES)


def draining(config: Config, **override: object) -> Config:
    """Return *config* with one override more."""
    added = Config.model_validate(
        {**config.model_dump(mode="json", exclude_unset=True), "overrides": [override]}
    ).overrides
    return config.model_copy(update={"overrides": (*config.overrides, *added)})


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        pytest.param(BEFORE, BEFORE, set(), id="nothing changed"),
        pytest.param(
            BEFORE, make_config(instances={k: PLACES[k] for k in "ac"}), {"b"}, id="one gone"
        ),
        pytest.param(
            BEFORE, make_config(instances={**PLACES, "a": ("cloud", "10.0.0.1:1")}), {"a"},
            id="one moved",
        ),
        pytest.param(
            BEFORE, make_config(instances={**PLACES, "d": ("cloud", "10.0.0.4:1")}), set(),
            id="one more",
        ),
        pytest.param(BEFORE, draining(BEFORE, instance="b", drain=True), {"b"}, id="one drained"),
        pytest.param(
            BEFORE, draining(BEFORE, site="north", service="chat", drain=True), {"a", "b"},
            id="a site drained",
        ),
        pytest.param(draining(BEFORE, instance="b", drain=True), BEFORE, set(), id="a drain ended"),
        pytest.param(
            BEFORE, draining(BEFORE, instance="b", max_share=0.1), set(), id="a smaller share"
        ),
    ],
)  # fmt: skip
def test_only_what_must_get_nothing_is_withdrawn(
    before: Config, after: Config, names: set[str]
) -> None:
    """What is added, or gets less, waits for the next decision."""
    assert {("chat", name) for name in names} == withdrawn(before, after)


def test_a_drain_for_one_service_leaves_the_others_alone() -> None:
    """It is withdrawn from that one."""
    (chat,) = BEFORE.services
    other = chat.model_copy(update={"name": "other"})
    both = BEFORE.model_copy(update={"services": (chat, other)})

    drained = draining(both, instance="a", service="chat", drain=True)
    assert {("chat", "a")} == withdrawn(both, drained)
    gone = both.model_copy(update={"instances": both.instances[1:]})
    assert {("chat", "a"), ("other", "a")} == withdrawn(both, gone)
