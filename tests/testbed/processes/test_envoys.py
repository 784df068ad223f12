"""The runner of the real Envoy."""

from __future__ import annotations

import json
import os

import pytest

from testbed.processes.envoys import (
    EnvoyEndpoint,
    EnvoyError,
    EnvoyProcess,
    running_envoy,
    validate,
)

pytestmark = pytest.mark.envoy

ADMIN = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
CLUSTER = {
    "name": "chat",
    "connect_timeout": "1s",
    "load_assignment": {
        "cluster_name": "chat",
        "endpoints": [
            {
                "locality": {"region": "eu", "zone": "a", "sub_zone": "north"},
                "lb_endpoints": [
                    {
                        "load_balancing_weight": 7,
                        "endpoint": {
                            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 9}}
                        },
                    }
                ],
            }
        ],
    },
}
BOOTSTRAP = json.dumps({"admin": ADMIN, "static_resources": {"clusters": [CLUSTER]}})


async def test_a_valid_bootstrap_validates() -> None:
    """Envoy's own check of a good bootstrap finds nothing."""
    assert await validate(BOOTSTRAP) == ""


async def test_the_reason_of_a_refused_bootstrap_is_given() -> None:
    """Envoy's own check of a bad bootstrap names the unknown field."""
    assert "no_such_field" in await validate('{"no_such_field": 1}')


async def test_a_started_envoy_answers_and_leaves_nothing_behind() -> None:
    """Admin questions are answered while it runs; its folder and child are gone after."""
    async with running_envoy(BOOTSTRAP) as envoy:
        assert (await envoy.server_info())["state"] == "LIVE"
        (endpoint,) = (await envoy.clusters())["chat"]
        assert (await envoy.stats("server.live"))["server.live"] == 1
        assert await envoy.config_dump()
        pid, folder = envoy.pid, envoy.log_path.parent
    assert not envoy.running
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert endpoint == EnvoyEndpoint(
        address="127.0.0.1:9",
        weight=7,
        priority=0,
        region="eu",
        zone="a",
        sub_zone="north",
        healthy=True,
        failed_active_check=False,
        failed_outlier_check=False,
        stats=endpoint.stats,
    )
    assert endpoint.stats["rq_total"] == 0


async def test_a_start_that_fails_carries_the_log() -> None:
    """A bootstrap that Envoy refuses raises with the reason."""
    with pytest.raises(EnvoyError, match="no_such_field"):
        await EnvoyProcess.start('{"no_such_field": 1}')


async def test_a_killed_envoy_is_gone() -> None:
    """A kill ends it without its graceful shutdown, twice without harm."""
    envoy = await EnvoyProcess.start(BOOTSTRAP)
    await envoy.kill()
    await envoy.stop()
    assert not envoy.running
