"""A client may be what its certificate says, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from controlplane.auth.identity import IdentityCheck
from controlplane.config import Identity, Role, Server
from controlplane.errors import IdentityError
from controlplane.runtime.throttle import LOG_PERIOD, MAX_KEYS

NORTH = "spiffe://fleet/site/north/envoy/e-1"
MAPPED = (
    Identity(san="spiffe://fleet/ns/edge/sa/*", sites=("north", "south")),
    Identity(san="*.north.example", sites=("north",)),
    Identity(san="{id}.devices.example", sites=("phones",)),
)


def verdict(
    names: list[str],
    *,
    id: str = "e-1",  # noqa: A002 -- the field's name
    site: str = "north",
    role: Role = Role.ENVOY,
    identities: tuple[Identity, ...] | None = None,
) -> str:
    """Return why a claim is refused; empty if it is not."""
    given = Server().identities if identities is None else identities
    try:
        IdentityCheck(given, enforced=True).check(names, role, id=id, site=site)
    except IdentityError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("names", "claim", "expected"),
    [
        pytest.param([NORTH], {}, "", id="its own"),
        pytest.param(["a.example", NORTH], {}, "", id="one of its names"),
        pytest.param([NORTH], {"site": "south"}, "not for site 'south'", id="another site"),
        pytest.param([NORTH], {"site": ""}, "not for site ''", id="no site"),
        pytest.param([NORTH], {"id": "e-2"}, "not for id 'e-2'", id="another id"),
        pytest.param([NORTH], {"role": Role.AGENT}, "role 'agent'", id="an agent with an Envoy's"),
        pytest.param(
            ["spiffe://fleet/site/north/agent/a"], {"id": "a"}, "role 'envoy'", id="the reverse"
        ),
        pytest.param([], {}, "carries no subject alternative name", id="no name"),
        pytest.param(
            ["spiffe://fleet/site/north/x/envoy/e-1"], {}, "role 'envoy'", id="a longer path"
        ),
        pytest.param(
            ["x-spiffe://fleet/site/north/envoy/e-1"], {}, "role 'envoy'", id="with a prefix"
        ),
    ],
)
def test_what_the_default_allows(names: list[str], claim: dict[str, Any], expected: str) -> None:
    """Site and id stand in the SPIFFE id."""
    reason = verdict(names, **claim)

    assert expected in reason
    assert bool(expected) == bool(reason)


@pytest.mark.parametrize(
    ("name", "claim", "allowed"),
    [
        pytest.param("spiffe://fleet/ns/edge/sa/envoy", {"site": "south"}, True, id="listed"),
        pytest.param("spiffe://fleet/ns/edge/sa/envoy", {"site": "west"}, False, id="not listed"),
        pytest.param("spiffe://fleet/ns/edge/sa/a/b", {}, False, id="a slash is no star"),
        pytest.param("gw.north.example", {}, True, id="DNS"),
        pytest.param("gwxnorthxexample", {}, False, id="a dot is a dot"),
        pytest.param("p7.devices.example", {"site": "phones", "id": "p7"}, True, id="id"),
        pytest.param("p7.devices.example", {"site": "phones", "id": "p8"}, False, id="other id"),
        pytest.param(NORTH, {}, False, id="the default is replaced"),
    ],
)
def test_what_a_mapping_allows(name: str, claim: dict[str, Any], allowed: bool) -> None:
    """Where names carry no site, the configuration lists sites."""
    assert allowed == (verdict([name], identities=MAPPED, **claim) == "")


def test_without_certificates_everybody_is_who_he_says() -> None:
    """Nothing else would work on a laptop."""
    IdentityCheck(enforced=False).check((), Role.ENVOY, id="e", site="anywhere")


def test_one_client_makes_one_line_a_minute_and_every_refusal_counts() -> None:
    """An Envoy comes back every second, on three services."""
    now = [0.0]
    counted: list[Role] = []
    check = IdentityCheck(
        Server().identities, enforced=True, on_refused=counted.append, clock=lambda: now[0]
    )
    with structlog.testing.capture_logs() as lines:
        for second in range(round(LOG_PERIOD) + 1):
            now[0] = float(second)
            with pytest.raises(IdentityError):
                check.check([NORTH], Role.ENVOY, id="e-1", site="south")

    assert [Role.ENVOY] * 61 == counted
    assert 2 == len(lines)
    assert {
        "event": "client rejected",
        "role": "envoy",
        "claims_id": "e-1",
        "claims_site": "south",
        "certificate": [NORTH],
    }.items() <= lines[0].items()


def test_clients_that_invent_ids_fill_neither_memory_nor_log() -> None:
    """What is remembered is bounded, and so are the lines that all clients cause together."""
    check = IdentityCheck(Server().identities, enforced=True)
    with structlog.testing.capture_logs() as lines:
        for number in range(MAX_KEYS + 10):
            with pytest.raises(IdentityError):
                check.check([NORTH], Role.ENVOY, id=f"e{number}", site="south")

    assert MAX_KEYS >= len(check._log)
    assert 1 < len(lines) <= 130


def test_an_observer_claims_no_site() -> None:
    """He asks about all of them; an Envoy's certificate does not make one."""
    allowed = (*Server().identities, Identity(san="spiffe://fleet/people/*", role=Role.OBSERVER))
    claim: dict[str, Any] = {"id": "", "site": "", "role": Role.OBSERVER, "identities": allowed}

    assert not verdict(["spiffe://fleet/people/me"], **claim)
    assert "role 'observer'" in verdict([NORTH], **claim)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"san": "spiffe://fleet/*"}, id="no site anywhere"),
        pytest.param({"san": "{site}/{site}"}, id="twice"),
        pytest.param({"san": "{name}", "sites": ["a"]}, id="unknown place"),
        pytest.param({"san": "", "sites": ["a"]}, id="empty"),
    ],
)
def test_an_identity_that_means_nothing_is_a_fault(wrong: dict[str, Any]) -> None:
    """Better at `cats check` than at the first stream."""
    with pytest.raises(ValueError, match=r"san|site"):
        Identity.model_validate(wrong)
