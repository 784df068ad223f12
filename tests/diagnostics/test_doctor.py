"""The doctor finds what is wrong and gives a remedy for each finding."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controlplane.diagnostics.certificates import examine_certificates
from controlplane.diagnostics.doctor import (
    examine_clock,
    examine_envoys,
    examine_failing,
    examine_fleet,
    unexamined,
)
from controlplane.diagnostics.finding import Finding
from controlplane.diagnostics.reachability import examine_discovery, examine_names, examine_scrapes
from controlplane.sources.dns import Answer
from testbed.fakes.certificates import Authority
from testbed.fakes.fleets import make_config
from testbed.fakes.instance_settings import InstanceSettings
from testbed.fakes.instances import EmulatedInstance
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_gateway, make_pod
from testbed.fakes.web_servers import serving_routes
from testbed.processes.ports import free_ports


def make_fleet(**fields: Any) -> dict[str, Any]:
    """Return a sound fleet of one instance, but for *fields* of it."""
    item = {"name": "a", "phase": "live", "reason": "", "missing": [], "trust": 1.0, **fields}
    return {"frozen": False, "config": {"faults": []}, "instances": [item]}


def fleet_with(**fields: Any) -> Iterator[Finding]:
    """Examine a fleet of one instance."""
    return examine_fleet(make_fleet(**fields))


def rule_with(**fields: Any) -> Iterator[Finding]:
    """Examine a sound rule of discovery, but for *fields* of it."""
    rule = {
        "rule": "r", "kind": "pods", "listed": True, "matches": 0, "ok": True,
        "reason": "", "remedy": "", "age": 0.1, "held": 0,
        "refused": [], "refused_count": 0, **fields,
    }  # fmt: skip
    return examine_fleet({**make_fleet(), "discovery": [rule]})


def make_envoys(**state: Any) -> dict[str, Any]:
    """Return one sound Envoy, but for *state* of its endpoints."""
    sound = {"sent": "v1", "sent_at": 90.0, "acknowledged": "v1", "refused": None, "refusal": None}
    kinds = {"ClusterLoadAssignment": {**sound, **state}}
    return {"at": 105.0, "envoys": [{"id": "e", "site": "s", "known_site": True, "types": kinds}]}


def test_a_sound_fleet_has_no_findings() -> None:
    """No one is bothered for nothing."""
    assert [] == [*examine_fleet(make_fleet()), *examine_envoys(make_envoys())]


@pytest.mark.parametrize(
    ("findings", "level", "words"),
    [
        pytest.param(fleet_with(phase="expired"), "bad", "is expired", id="expired"),
        pytest.param(fleet_with(phase="unknown"), "warning", "unknown", id="unknown"),
        pytest.param(fleet_with(phase="quarantined"), "bad", "quar", id="quarantine"),
        pytest.param(fleet_with(missing=["waiting"]), "warning", "waiting", id="signal"),
        pytest.param(fleet_with(trust=0.5), "warning", "50%", id="distrust"),
        pytest.param(examine_fleet({**make_fleet(), "frozen": True}), "bad", "silent", id="frozen"),
        pytest.param(rule_with(ok=False, reason="x", age=7.0), "bad", "for 7 s: x", id="api"),
        pytest.param(
            rule_with(kind="http_routes"), "warning", "no HTTPRoute leads", id="no routes"
        ),
        pytest.param(rule_with(held=2), "bad", "2 instances are gone and kept", id="held"),
        pytest.param(
            rule_with(refused_count=1, refused=[{"name": "p", "clash": "site", "message": "m"}]),
            "warning", "rule r: p does not take part (site)", id="clash",
        ),
        pytest.param(examine_envoys({"at": 0.0, "envoys": []}), "warning", "no Envoy", id="no one"),
        pytest.param(
            examine_envoys(make_envoys(refused="v2", refusal="bad weight")), "bad", "bad weight",
            id="refusal",
        ),
        pytest.param(examine_envoys(make_envoys(acknowledged="v0")), "warning", "15 s", id="lag"),
        pytest.param(
            examine_clock("Mon, 01 Jan 2024 00:00:00 GMT", unix_now=1704067210.0), "warning",
            "10 s apart", id="clock",
        ),
    ],
)  # fmt: skip
def test_each_trouble_is_found_with_a_remedy(findings: Any, level: str, words: str) -> None:
    """What is wrong, how bad, and what to do."""
    (found,) = findings
    assert isinstance(found, Finding)
    assert level == found.level
    assert words in found.what
    assert found.remedy


def test_a_certificate_that_is_not_there_is_reported() -> None:
    """The path is named."""
    config = make_config(server={"tls": {"cert": "/nowhere/cert.pem", "key": "/nowhere/key.pem"}})
    (found,) = examine_certificates(config, unix_now=0.0)
    assert ("bad", True) == (found.level, "/nowhere" in found.what or "No such file" in found.what)


async def test_metrics_are_read_from_here() -> None:
    """An instance that answers is well; one that does not is reported with its address."""
    (dead,) = free_ports(1)
    async with EmulatedInstance(InstanceSettings(model="m")) as live:
        config = make_config(
            instances={"well": ("north", live.address), "ill": ("north", f"127.0.0.1:{dead}")}
        )
        config = config.model_copy(
            update={
                "instances": tuple(
                    type(item).model_validate(
                        {
                            **item.model_dump(exclude={"scrape"}),
                            "engine": "vllm",
                            "scrape": {"url": f"http://{item.address}/metrics"},
                        }
                    )
                    for item in config.instances
                )
            }
        )
        found = await examine_scrapes(config)

    assert [("bad", True)] == [(item.level, str(dead) in item.what) for item in found]


async def test_the_kubernetes_api_is_asked_from_here() -> None:
    """What is denied, missing or empty is reported by rule and kind; what answers is not."""
    rule = {"kind": "pods", "site": "north", "model": "m"}
    rules = [
        {**rule, "name": "well", "selector": "app=x"},
        {**rule, "name": "empty", "selector": "app=y"},
        {**rule, "name": "pools", "kind": "inference_pools"},
        {**rule, "name": "services", "kind": "endpoint_slices"},
    ]
    server = KubernetesApiServer(absent={"inferencepools"}, denied={"endpointslices"})
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1", labels={"app": "x"}))
        server.put("gateways", make_gateway("g", {}))
        config = make_config(discovery={"api": {"server": server.url}, "rules": rules})
        found = await examine_discovery(config)
    gone = await examine_discovery(config)
    elsewhere = await examine_discovery(make_config(discovery={"rules": rules}))

    assert [
        ("warning", "rule empty: pods: none in default"),
        ("bad", "rule pools: inferencepools cannot be read: status 404"),
        ("bad", "rule services: endpointslices cannot be read: status 403"),
    ] == [
        (each.level, each.what.partition(": the ")[0].partition(": endpointslices is")[0])
        for each in found
    ]
    assert ["bad"] == [each.level for each in gone]
    # The laptop of an operator is no pod, which is no one's fault.
    assert ["warning"] == [each.level for each in elsewhere]
    assert all(each.remedy for each in [*found, *gone, *elsewhere])


async def examine_page(
    answer: Callable[[web.Request], web.StreamResponse], **settings: Any
) -> list[Finding]:
    """Examine one vLLM instance whose page *answer* gives."""

    async def respond(request: web.Request) -> web.StreamResponse:
        return answer(request)

    tls, scheme = settings.pop("ssl_context", None), settings.pop("scheme", "http")
    config = make_config(instances={"a": ("north", "127.0.0.1:1")})
    (item,) = config.instances
    async with serving_routes(web.get("/metrics", respond), tls=tls) as port:
        scraped = type(item).model_validate(
            {
                **item.model_dump(exclude={"scrape"}),
                "engine": "vllm",
                "scrape": {"url": f"{scheme}://127.0.0.1:{port}/metrics", **settings},
            }
        )
        return await examine_scrapes(config.model_copy(update={"instances": (scraped,)}))


GAUGES = "vllm:num_requests_running 1\nvllm:num_requests_waiting 0\nvllm:kv_cache_usage_perc 0.1\n"


@pytest.mark.parametrize(
    ("answer", "words", "remedy"),
    [
        pytest.param(
            lambda _: web.Response(status=302, headers={"Location": "/elsewhere"}),
            "redirected to '/elsewhere'", "set the final URL", id="redirect",
        ),
        pytest.param(
            lambda _: web.Response(body=b"x", headers={"Content-Encoding": "gzip"}),
            "answered in 'gzip'", "uncompressed", id="gzip",
        ),
        pytest.param(
            lambda _: web.Response(text="x 1\n" * 100_001), "more than 100000 lines",
            "export less", id="lines",
        ),
        pytest.param(lambda _: web.Response(status=401), "status 401", "token_file", id="token"),
        pytest.param(
            lambda _: web.Response(text="<html>"), "line 1", "is its metrics page", id="page"
        ),
    ],
)  # fmt: skip
async def test_a_page_is_judged_as_serve_judges_it(
    answer: Callable[[web.Request], web.StreamResponse], words: str, remedy: str
) -> None:
    """By the same code, with what to do."""
    (found,) = await examine_page(answer)

    assert "bad" == found.level
    assert words in found.what
    assert remedy in found.remedy


async def test_a_large_page_that_comes_in_pieces_is_read_whole() -> None:
    """Not its first segment only."""
    page = "".join(f'x_bucket{{le="{n}"}} 1\n' for n in range(20_000)) + GAUGES

    assert [] == await examine_page(lambda _: web.Response(text=page))


async def test_an_authority_that_is_not_trusted_is_named_as_tls(tmp_path: Path) -> None:
    """Nothing is said of a firewall."""
    ours, theirs = Authority(tmp_path, name="ours"), Authority(tmp_path, name="theirs")
    server = theirs.issue("127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(server.cert, server.key)

    (found,) = await examine_page(
        lambda _: web.Response(text=GAUGES), ssl_context=context, scheme="https", ca=str(ours.ca)
    )

    assert "TLS" in found.what
    assert "certificate" in found.what
    assert "scrape.ca" in found.remedy
    assert "firewall" not in found.remedy


def test_what_was_not_examined_is_said() -> None:
    """Nothing found is not nothing wrong."""
    config = make_config()

    assert any("certificates" in left for left in unexamined(None, running=True))
    assert any("4 instances that are not scraped" in left for left in unexamined(
        config, running=True
    ))  # fmt: skip
    assert any("--admin" in left for left in unexamined(config, running=False))


async def test_names_that_are_not_resolved_are_findings() -> None:
    """Each with its instances; addresses and names that are resolved are none."""

    async def answer(name: str) -> Answer:
        if name == "slow.example":
            raise TimeoutError
        if name == "typo.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return Answer(frozenset({"0.0.0.0" if name == "filtered.example" else "127.0.0.1"}))

    addresses = {"a": "typo.example:80", "b": "typo.example:81", "c": "slow.example:80"}
    addresses["f"] = "filtered.example:80"
    addresses |= {"d": "good.example:80", "e": "10.0.0.1:80"}
    config = make_config(instances={name: ("north", at) for name, at in addresses.items()})

    found = await examine_names(config, answer)

    assert ["bad"] * 3 == [each.level for each in found]
    assert "filtered.example of f is not resolved: no instance can have" in found[0].what
    assert "slow.example of c is not resolved: no answer within 5 s" in found[1].what
    assert "typo.example of a, b is not resolved: Name or service not known" in found[2].what


async def test_an_instance_whose_name_has_anothers_address_is_a_finding() -> None:
    """Both are named, with what to do."""

    async def answer(_: str) -> Answer:
        return Answer(frozenset({"127.0.0.1"}))

    addresses = {"a": "one.example:80", "b": "two.example:80", "c": "two.example:81"}
    config = make_config(instances={name: ("north", at) for name, at in addresses.items()})

    (finding,) = await examine_names(config, answer)

    assert "bad" == finding.level
    assert "b gets no requests: its name resolves to the address of a" in finding.what
    assert "a port of its own" in finding.remedy


def test_what_an_instance_fails_is_found_with_since_when_and_what_ends_it() -> None:
    """Though it is live, and its metrics say that all is well."""
    item = {"instance": "a", "service": "chat", "probability": 0.5, "class": "late", "since": 9.0,
            "awaited": "good answers"}  # fmt: skip

    (finding,) = examine_failing({**make_fleet(), "failing": [item]})

    assert finding.level == "bad"
    assert "a fails 50% of its requests for chat" in finding.what
    assert "(late) for 9 s; it awaits good answers" in finding.what
    assert finding.remedy


def test_signals_that_are_not_believed_are_found_of_a_live_instance() -> None:
    """A page that is wrong harms no traffic, so nothing else would show it."""
    (finding,) = fleet_with(disbelieved=["running"], reason="its values have stood still for 9 s")

    assert "running not believed: its values have stood still" in finding.what
