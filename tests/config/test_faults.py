"""Broken files: each fault at its line, column and path, with what is wrong and what is right."""

from __future__ import annotations

# ruff: noqa: E501 -- a fault is one line, and so it stands here
import pytest

from controlplane.config import parse_config
from controlplane.errors import ConfigError

BASE = """\
version: 1
sites:
  - {name: cloud, kind: cloud, region: eu-west}
  - {name: edge, kind: edge, region: eu-north}
  - {name: phones, kind: device}
models:
  - {name: big, kind: foundation}
  - {name: small, kind: pruned, base: big}
services:
  - name: chat
    match: [{path: /v1/chat}]
    models: [{name: big}, {name: small, penalty: 80ms}]
  - name: paint
    match: [{path: /v1/paint}]
    models: [{name: big}]
instances:
  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big}
  - {name: b, site: edge, address: "10.0.0.2:8000", model: small}
"""
"""A valid file of 18 lines that each case changes in a line or two."""


def changed(lines: dict[int, str | None]) -> str:
    """Return the base with lines replaced (19 is one more at the end), or left out."""
    text: list[str | None] = [*BASE.splitlines(), None]
    for number, line in lines.items():
        text[number - 1] = line
    return "".join(f"{line}\n" for line in text if line is not None)


def faults_in(text: str) -> list[str]:
    """Return the faults as ``LINE:COL: path: message``; None for a valid file."""
    try:
        parse_config(text, file="f")
    except ConfigError as error:
        return [str(fault).removeprefix("f:") for fault in error.faults]
    return []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", models: [big, {name: bog}, big]}'
            },
            [
                "17:68: instances[0].models[1]: no model is named 'bog'; did you mean 'big'?",
                "17:81: instances[0].models[2]: 'big' is listed twice; remove one",
            ],
            id="models of an instance",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, served_as: x, models: [small]}',
                18: '  - {name: b, site: edge, address: "10.0.0.2:8000"}',
            },
            [
                "17:61: instances[0].model: is one model, and models lists several; keep one key",
                "17:77: instances[0].served_as: belongs to one model; write it beside each of models, as {name: NAME, served_as: WHAT}",
                "18:5: instances[1]: runs nothing; give model, or models for several",
            ],
            id="one model and several",
        ),
        pytest.param(
            {3: "\t- {name: cloud, kind: cloud}"},
            [
                "3:1: not YAML: while scanning for the next token found character that cannot start any token; indent with spaces, not tabs"
            ],
            id="a tab",
        ),
        pytest.param(
            {3: "  - {name: cloud, kind: cloud"},
            [
                "4:5: not YAML: while parsing a flow mapping begun on line 3 did not find expected ',' or '}'; close the bracket, or put a comma between the entries"
            ],
            id="an open bracket",
        ),
        pytest.param(
            {10: "  - name: chat: it"},
            [
                "10:15: not YAML: mapping values are not allowed in this context; put text that holds ': ' in quotes, or check the indentation"
            ],
            id="a colon in plain text",
        ),
        pytest.param(
            {19: "---\nversion: 1"},
            ["20:1: a second document begins; keep one in a file"],
            id="a second document",
        ),
        pytest.param(
            {3: "  - *north"},
            ["3:5: alias *north has no anchor &north above it"],
            id="an alias without an anchor",
        ),
        pytest.param(
            {3: "  - !!python/object:os.system {}"},
            ["3:5: tag !!python/object:os.system is not understood; remove it"],
            id="a tag that would run code",
        ),
        pytest.param(
            {19: "models: []"},
            ["19:1: models: key 'models' is given twice, first on line 6; remove one"],
            id="a key twice",
        ),
        pytest.param(
            {7: "  - {name: big, kind: foundation, name: huge}"},
            ["7:35: models[0].name: key 'name' is given twice, first on line 7; remove one"],
            id="a key twice in a flow mapping",
        ),
        pytest.param(
            {19: "? [a]\n: 1"},
            ["19:3: a key must be text, not a list or a mapping"],
            id="a list as a key",
        ),
        pytest.param(
            {3: "  - {<<: 3, name: cloud, kind: cloud, region: eu-west}"},
            ["3:10: sites[0][\"<<\"]: '<<' takes a mapping, such as *anchor"],
            id="a merge of a number",
        ),
        pytest.param(
            {3: "  - {name: cloud, region: eu-west}"},
            ["3:5: sites[0].kind: missing; add 'kind', which is one of cloud, edge, device"],
            id="a missing key",
        ),
        pytest.param(
            {13: "  - task: text"},
            ["13:5: services[1].name: missing; add 'name', which is text"],
            id="a missing key in a block",
        ),
        pytest.param(
            {1: "# version"},
            ["2:1: version: missing; add 'version', which is the value 1"],
            id="no version",
        ),
        pytest.param(
            {1: "version: 2"},
            ["1:10: version: 2 is not known; write 1"],
            id="a later version",
        ),
        pytest.param(
            {1: "version: '1'"},
            ["1:10: version: '1' is text; write 1 without quotes"],
            id="a version in quotes",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "[2001:db8::1]:8000", model: big}',
                18: '  - {name: b, site: edge, address: "[2001:DB8:0::1]:8000", model: small}',
            },
            [
                "18:36: instances[1].address: '[2001:DB8:0::1]:8000' is already the address of 'a'; an address is one instance"
            ],
            id="one IPv6 address in two spellings",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", modle: big}'},
            ["17:54: instances[0].modle: unknown key 'modle'; did you mean 'model'?"],
            id="a misspelt key",
        ),
        pytest.param(
            {19: "zebra: 1"},
            [
                "19:1: zebra: unknown key 'zebra'; known: version, sites, models, services, instances, discovery, telemetry, network, steering, overrides, envoy, server"
            ],
            id="an unknown key",
        ),
        pytest.param(
            {19: "network:\n  paths: [{source: cloud, to: edge, rtt: 5ms}]"},
            [
                "20:11: network.paths[0].from: missing; add 'from', which is text",
                "20:12: network.paths[0].source: unknown key 'source'; known: from, to, rtt, bandwidth",
            ],
            id="a key by its internal name",
        ),
        pytest.param(
            {3: "  - {name: cloud, kind: clod, region: eu-west}"},
            [
                "3:25: sites[0].kind: 'clod' is not one of cloud, edge, device; did you mean 'cloud'?"
            ],
            id="a misspelt word",
        ),
        pytest.param(
            {3: "  - {name: cloud, kind: moon, region: eu-west}"},
            ["3:25: sites[0].kind: 'moon' is not one of cloud, edge, device"],
            id="an unknown word",
        ),
        pytest.param(
            {3: "  - {name: cloud, kind: [cloud], region: eu-west}"},
            ["3:25: sites[0].kind: a list is wrong here; give one of cloud, edge, device"],
            id="a list for a word",
        ),
        pytest.param(
            {7: "  - {name: 70, kind: foundation}"},
            ["7:12: models[0].name: 70 must be text; write it in quotes, '70'"],
            id="a number as a name",
        ),
        pytest.param(
            {7: "  - {name: 'a b', kind: foundation}"},
            [
                "7:12: models[0].name: 'a b' is not a name; use letters, digits, '.', '_' and '-', at most 63, none of the marks first or last"
            ],
            id="a name with a space",
        ),
        pytest.param(
            {19: "overrides:"},
            [
                "19:11: overrides: has no value; give a list, each entry after '- ', or remove the key"
            ],
            id="an empty section",
        ),
        pytest.param(
            {2: "sites: cloud", 3: None, 4: None, 5: None},
            ["2:8: sites: 'cloud' is wrong here; give a list, each entry after '- '"],
            id="text for a list",
        ),
        pytest.param(
            {11: "    match: []"},
            ["11:12: services[0].match: the list is empty; give at least 1 entry"],
            id="an empty list",
        ),
        pytest.param(
            {19: "steering: fast"},
            [
                "19:11: steering: 'fast' is wrong here; give a mapping of keys to values such as policy, canary, mode, period, expiry, probe_share"
            ],
            id="text for a mapping",
        ),
        pytest.param(
            {12: "    models: [{name: big}, {name: small, penalty: 80}]"},
            [
                "12:50: services[0].models[1].penalty: 80 has no unit; write a duration such as 80ms (or 'never')"
            ],
            id="no unit",
        ),
        pytest.param(
            {19: "steering: {period: 1 fortnight}"},
            [
                "19:20: steering.period: '1 fortnight' is not a duration; write one such as 250ms or 1s (units: ns, us, ms, s, m, h, d)"
            ],
            id="an unknown unit",
        ),
        pytest.param(
            {19: "steering: {period: 0s}"},
            ["19:20: steering.period: must be longer than 0"],
            id="a period of zero",
        ),
        pytest.param(
            {19: "steering: {probe_share: 130%}"},
            [
                "19:25: steering.probe_share: '130%' is not a share; it must lie between 0% and 100% (0.3 is 30%)"
            ],
            id="a share above all",
        ),
        pytest.param(
            {19: "steering: {probe_share: 30}"},
            [
                "19:25: steering.probe_share: '30' is not a share; it must lie between 0% and 100% (0.3 is 30%)"
            ],
            id="a bare percentage",
        ),
        pytest.param(
            {3: "  - {name: cloud, kind: cloud, region: eu-west, power: {budget: 8 tons}}"},
            [
                "3:65: sites[0].power.budget: '8 tons' is not a power; write one such as 300W or 8kW (units: mW, W, kW, MW)"
            ],
            id="a power in tons",
        ),
        pytest.param(
            {19: "overrides: [{instance: a, drain: yes}]"},
            ["19:34: overrides[0].drain: 'yes' is wrong here; give true or false"],
            id="yes for true",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, slots: "32"}'},
            ["17:73: instances[0].slots: '32' is wrong here; give a whole number"],
            id="a number in quotes",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, slots: 1.5}'},
            ["17:73: instances[0].slots: 1.5 is wrong here; give a whole number"],
            id="half a slot",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, slots: 0}'},
            ["17:73: instances[0].slots: 0 is too small; at least 1"],
            id="no slot",
        ),
        pytest.param(
            {19: "envoy: {port: 70000}"},
            ["19:15: envoy.port: 70000 is too large; at most 65535"],
            id="a port too large",
        ),
        pytest.param(
            {19: "steering: {energy_value: .inf}"},
            ["19:26: steering.energy_value: inf is not a finite number"],
            id="infinity",
        ),
        pytest.param(
            {3: "  - {name: cloud, kind: cloud, region: eu-west, power: {price: .nan}}"},
            ["3:64: sites[0].power.price: nan is not a finite number"],
            id="not a number",
        ),
        pytest.param(
            {11: "    match: [{path: v1/chat}]"},
            [
                "11:20: services[0].match[0].path: 'v1/chat' is not a path; it starts with '/' and holds no spaces"
            ],
            id="a path without a slash",
        ),
        pytest.param(
            {11: "    match: [{header: {'x y': chat}}]"},
            [
                "11:23: services[0].match[0].header[\"x y\"]: 'x y' is not a name of a header or cookie; write one such as x-session-id"
            ],
            id="a header name with a space",
        ),
        pytest.param(
            {11: '    match: [{header: {x: "a\\nb"}}]'},
            [
                "11:26: services[0].match[0].header.x: 'a\\nb' is not a header value; it cannot hold control characters"
            ],
            id="a header value with a line break",
        ),
        pytest.param(
            {19: "server: {bus: redis://x}"},
            [
                "19:15: server.bus: 'redis://x' is not a bus; write local, kubernetes, or a URL such as nats://host:4222"
            ],
            id="an unknown bus",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "gpu..example:8000", model: big}'},
            [
                "17:37: instances[0].address: 'gpu..example:8000' does not start with an IP address; write IP:PORT such as 10.1.0.10:8000"
            ],
            id="a host name",
        ),
        pytest.param(
            {17: "  - {name: a, site: cloud, address: 10.0.0.1, model: big}"},
            ["17:37: instances[0].address: '10.0.0.1' has no port; write 10.0.0.1:8000"],
            id="no port",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "2001:db8::1", model: big}'},
            ["17:37: instances[0].address: '2001:db8::1' has no port; write [2001:db8::1]:8000"],
            id="IPv6 without port",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "[10.0.0.1]:80", model: big}'},
            [
                "17:37: instances[0].address: '[10.0.0.1]:80' needs brackets around IPv6 only; write 10.0.0.1:80"
            ],
            id="IPv4 in brackets",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "10.0.0.1:0", model: big}'},
            [
                "17:37: instances[0].address: '10.0.0.1:0' has port '0'; a port lies between 1 and 65535"
            ],
            id="port 0",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "0.0.0.0:80", model: big}'},
            [
                "17:37: instances[0].address: '0.0.0.0:80' cannot be connected to; write the instance's own address"
            ],
            id="any address",
        ),
        pytest.param(
            {19: "envoy: {address: localhost}"},
            ["19:18: envoy.address: 'localhost' is not an IP address; write one such as 127.0.0.1"],
            id="a name to listen on",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, scrape: {url: "10.0.0.1/metrics"}}'
            },
            [
                "17:80: instances[0].scrape.url: '10.0.0.1/metrics' is not a URL; write one such as http://10.1.0.10:8000/metrics"
            ],
            id="a URL without scheme",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, scrape: {url: "http://u:p@10.0.0.1/"}}'
            },
            ["17:80: instances[0].scrape.url: holds a user or password; use token_file instead"],
            id="a URL with a password",
        ),
        pytest.param(
            {4: "  - {name: cloud, kind: edge, region: eu-north}", 18: "# none"},
            ["4:12: sites[1].name: 'cloud' already names the site on line 3; choose another"],
            id="a site twice",
        ),
        pytest.param(
            {8: "  - {name: big, kind: pruned}", 12: "    models: [{name: big}]", 18: "# none"},
            ["8:12: models[1].name: 'big' already names the model on line 7; choose another"],
            id="a model twice",
        ),
        pytest.param(
            {13: "  - name: chat"},
            [
                "13:11: services[1].name: 'chat' already names the service on line 10; choose another"
            ],
            id="a service twice",
        ),
        pytest.param(
            {18: '  - {name: a, site: edge, address: "10.0.0.2:8000", model: small}'},
            ["18:12: instances[1].name: 'a' already names the instance on line 17; choose another"],
            id="an instance twice",
        ),
        pytest.param(
            {18: '  - {name: b, site: edge, address: "10.0.0.1:8000", model: small}'},
            [
                "18:36: instances[1].address: '10.0.0.1:8000' is already the address of 'a'; an address is one instance"
            ],
            id="an address twice",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: phones, address: "127.0.0.1:9000", model: big}',
                18: '  - {name: b, site: phones, address: "127.0.0.1:9000", model: small}',
            },
            [
                "18:38: instances[1].address: '127.0.0.1:9000' is already the address of 'a'; an address is one instance"
            ],
            id="an address twice on a device",
        ),
        pytest.param(
            {17: '  - {name: a, site: clout, address: "10.0.0.1:8000", model: big}'},
            ["17:21: instances[0].site: no site is named 'clout'; did you mean 'cloud'?"],
            id="an unknown site",
        ),
        pytest.param(
            {17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: bigger}'},
            ["17:61: instances[0].model: no model is named 'bigger'; did you mean 'big'?"],
            id="an unknown model",
        ),
        pytest.param(
            {15: "    models: [{name: painter}]"},
            ["15:21: services[1].models[0].name: no model is named 'painter'; known: big, small"],
            id="an unknown model of a service",
        ),
        pytest.param(
            {15: "    models: [{name: big}, {name: big}]"},
            [
                "15:34: services[1].models[1].name: 'big' already names the model on line 15; choose another"
            ],
            id="a model twice in a service",
        ),
        pytest.param(
            {8: "  - {name: small, kind: pruned, base: bgi}"},
            ["8:39: models[1].base: no model is named 'bgi'; did you mean 'big'?"],
            id="an unknown base",
        ),
        pytest.param(
            {7: "  - {name: big, kind: foundation, base: small}"},
            ["7:41: models[0].base: goes in a circle: big -> small -> big; remove one"],
            id="bases in a circle",
        ),
        pytest.param(
            {19: "network:\n  paths:\n    - {from: phone, to: edgy, rtt: 5ms}"},
            [
                "21:14: network.paths[0].from: no site is named 'phone'; did you mean 'phones'?",
                "21:25: network.paths[0].to: no site is named 'edgy'; did you mean 'edge'?",
            ],
            id="unknown ends of a path",
        ),
        pytest.param(
            {19: "network: {paths: [{from: edge, to: edge, rtt: 5ms}]}"},
            [
                "19:36: network.paths[0].to: leads to where it begins; network.local_rtt is the round trip within a site"
            ],
            id="a path to itself",
        ),
        pytest.param(
            {
                19: "network:\n  paths:\n    - {from: cloud, to: edge, rtt: 5ms}\n    - {from: cloud, to: edge, bandwidth: 1Gbps}"
            },
            [
                "22:7: network.paths[1]: the path from 'cloud' to 'edge' is already given on line 21; join the two"
            ],
            id="a path twice",
        ),
        pytest.param(
            {19: "network: {paths: [{from: cloud, to: edge}]}"},
            ["19:19: network.paths[0]: says nothing of the path; give rtt or bandwidth"],
            id="a path that says nothing",
        ),
        pytest.param(
            {15: "    models: [{name: big}]\n    residency: {allow: [eu-west, eu-nort]}"},
            [
                "16:34: services[1].residency.allow[1]: no site is in region 'eu-nort'; did you mean 'eu-north'?"
            ],
            id="an unknown region",
        ),
        pytest.param(
            {
                15: "    models: [{name: big}]\n    canary: {client_site: egde, policy: optimal}",
                19: "steering: {canary: {client_site: edge, policy: fastest}}",
            },
            [
                "16:27: services[1].canary.client_site: no site is named 'egde'; did you mean 'edge'?",
                "16:41: services[1].canary.policy: 'optimal' decides everywhere already, so nothing would be tried; name another policy",
                "20:48: steering.canary.policy: 'fastest' is not one of optimal, waterfall, spray, headroom, capacity, nearest, static",
            ],
            id="canaries of nowhere, of nothing new and of nothing known",
        ),
        pytest.param(
            {15: "    models: [{name: big}]\n    residency: {allow: []}"},
            ["16:24: services[1].residency.allow: the list is empty; give at least 1 entry"],
            id="no region",
        ),
        pytest.param(
            {11: "    http_routes: [{pool: p}]"},
            [
                "11:19: services[0].http_routes[0]: asks a Kubernetes API, and there is no discovery; add it"
            ],
            id="HTTPRoutes without discovery",
        ),
        pytest.param(
            {11: "    task: text"},
            ["10:5: services[0]: 'match' is missing; give it, or http_routes"],
            id="a service without a match",
        ),
        pytest.param(
            {11: "    match: [{host: 'a.example:80'}]"},
            [
                "11:20: services[0].match[0].host: 'a.example:80' is no host name; write one such as a.example, without a port"
            ],
            id="a host with a port",
        ),
        pytest.param(
            {11: "    match: [{host: a.example}]", 14: "    match: [{host: A.example.}]"},
            [
                "14:13: services[1].match[0]: service 'chat' has the same match (line 11); a request can belong to one service only"
            ],
            id="a host match of two services, in another case",
        ),
        pytest.param(
            {11: "    match: [{}]"},
            [
                "11:13: services[0].match[0]: an empty match would take every request; give a path, a header or a model"
            ],
            id="an empty match",
        ),
        pytest.param(
            {11: "    match: [{header: {}}]"},
            [
                "11:13: services[0].match[0]: an empty match would take every request; give a path, a header or a model"
            ],
            id="a match of no header",
        ),
        pytest.param(
            {14: "    match: [{header: {X-A: b}}, {path: /v1/chat}]"},
            [
                "14:33: services[1].match[1]: service 'chat' has the same match (line 11); a request can belong to one service only"
            ],
            id="a match of two services",
        ),
        pytest.param(
            {
                11: "    match: [{header: {X-Service: a}}]",
                14: "    match: [{header: {x-service: a}}]",
            },
            [
                "14:13: services[1].match[0]: service 'chat' has the same match (line 11); a request can belong to one service only"
            ],
            id="a header match of two services, in another case",
        ),
        pytest.param(
            {14: "    match: [{path: /p}, {path: /p}]"},
            ["14:25: services[1].match[1]: is the same as services[1].match[0]; remove one"],
            id="a match twice",
        ),
        pytest.param(
            {15: "    models: [{name: big, penalty: never}]"},
            ["15:13: services[1].models: all have the penalty never; nothing may serve it"],
            id="all models excluded",
        ),
        pytest.param(
            {15: "    models: [{name: big}]\n    affinity: {header: x-a, cookie: b}"},
            [
                "16:37: services[1].affinity.cookie: a session is named by a header or a cookie; remove one"
            ],
            id="sessions named twice",
        ),
        pytest.param(
            {15: "    models: [{name: big}]\n    affinity: {pause: 1s}"},
            [
                "16:15: services[1].affinity: does not say what names a session; give header, such as x-session-id, or cookie"
            ],
            id="sessions without a name",
        ),
        pytest.param(
            {15: "    models: [{name: big}]\n    affinity: {header: x-a, balance_factor: 0.5}"},
            [
                "16:45: services[1].affinity.balance_factor: must be 1 or more, or 0 for no bound: 1 is an instance's very share"
            ],
            id="less than an instance's share",
        ),
        pytest.param(
            {14: "    match: [{path: /p, body_size: {least: 8kB, below: 8kB}}]"},
            [
                "14:55: services[1].match[0].body_size.below: is no more than least, so no length is between; raise it"
            ],
            id="a class of no length",
        ),
        pytest.param(
            {15: "    models: [{name: big}]\n    slo: {ttft: 5s, latency: 4s}"},
            ["16:17: services[1].slo.ttft: is longer than latency, which includes it"],
            id="a first token after the answer",
        ),
        pytest.param(
            {19: "steering: {period: 1s, expiry: 1s}"},
            [
                "19:32: steering.expiry: expiry (1s) must be longer than period (1s), or every instance would be unknown at each decision"
            ],
            id="expiry as short as the period",
        ),
        pytest.param(
            {19: "steering: {period: 1m}"},
            [
                "19:20: steering.period: expiry (30s) must be longer than period (60s), or every instance would be unknown at each decision"
            ],
            id="a period longer than the expiry",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, scrape: {url: "http://10.0.0.1/m", timeout: 2s}}'
            },
            [
                "17:110: instances[0].scrape.timeout: is longer than the period (1s); a scrape must end before the next begins"
            ],
            id="a scrape longer than its period",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, scrape: {url: "http://10.0.0.1/m", period: 30s}}'
            },
            [
                "17:109: instances[0].scrape.period: is not shorter than steering.expiry (30s); the instance would be forgotten between two scrapes"
            ],
            id="a scrape rarer than the expiry",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, scrape: {url: "http://10.0.0.1/m", ca: ca.pem}}'
            },
            ["17:105: instances[0].scrape.ca: is for https, and the url is http; change one"],
            id="certificates for http",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, scrape: {url: "https://10.0.0.1/m", cert: c.pem}}'
            },
            ["17:74: instances[0].scrape: cert and key go together; set both or neither"],
            id="a certificate to scrape with and no key",
        ),
        pytest.param(
            {
                17: '  - {name: a, site: cloud, address: "10.0.0.1:8000", model: big, power: {idle: 300W, busy: 200W}}'
            },
            ["17:92: instances[0].power.busy: is less than idle; busy is the draw at full load"],
            id="less power busy than idle",
        ),
        pytest.param(
            {17: '  - {name: a, site: phones, address: "127.0.0.1:10000", model: big}'},
            [
                "17:38: instances[0].address: port 10000 is where the Envoys of 'phones' listen; requests would go in a circle, so choose another"
            ],
            id="an instance where Envoy listens",
        ),
        pytest.param(
            {
                4: "  - {name: edge, kind: edge, region: eu-north, listener: {port: 8000}}",
                18: '  - {name: b, site: edge, address: "127.0.0.1:8000", model: small}',
            },
            [
                "18:36: instances[1].address: port 8000 is where the Envoys of 'edge' listen; requests would go in a circle, so choose another"
            ],
            id="an instance where the site's Envoys listen",
        ),
        pytest.param(
            {19: "overrides: [{service: chat, drain: true}]"},
            ["19:13: overrides[0]: names neither instance nor site; add the one meant"],
            id="an override of no place",
        ),
        pytest.param(
            {19: "overrides:\n  - {service: chta, instance: c, site: edg, drain: true}"},
            [
                "20:15: overrides[0].service: no service is named 'chta'; did you mean 'chat'?",
                "20:31: overrides[0].instance: no instance is named 'c'; known: a, b",
                "20:40: overrides[0].site: no site is named 'edg'; did you mean 'edge'?",
            ],
            id="an override of unknown names",
        ),
        pytest.param(
            {19: "overrides: [{site: edge, min_share: 50%, max_share: 30%}]"},
            ["19:37: overrides[0].min_share: is more than max_share; swap or change them"],
            id="a least share above the most",
        ),
        pytest.param(
            {19: "overrides: [{site: edge, pin: true, drain: true}]"},
            ["19:31: overrides[0].pin: contradicts drain; remove one"],
            id="pinned and drained",
        ),
        pytest.param(
            {19: "overrides: [{site: edge, min_share: 10%, drain: true}]"},
            ["19:37: overrides[0].min_share: contradicts drain; remove one"],
            id="a share of a drained site",
        ),
        pytest.param(
            {19: "overrides: [{site: edge, max_share: 10%, pin: true}]"},
            ["19:37: overrides[0].max_share: contradicts pin; remove one"],
            id="pinned and limited",
        ),
        pytest.param(
            {19: "overrides: [{site: edge, reason: because}]"},
            [
                "19:13: overrides[0]: has no effect; give one of drain, pin, weight, max_share, min_share"
            ],
            id="an override that does nothing",
        ),
        pytest.param(
            {19: "overrides:\n  - {site: edge, drain: true}\n  - {site: edge, max_share: 10%}"},
            ["21:5: overrides[1]: is for the same place as the one on line 20; join the two"],
            id="a place overridden twice",
        ),
        pytest.param(
            {19: "overrides: [{instance: a, site: edge, drain: true}]"},
            ["19:33: overrides[0].site: instance 'a' is at 'cloud', not at 'edge'; remove site"],
            id="an instance at another site",
        ),
        pytest.param(
            {19: "overrides: [{service: paint, instance: b, pin: true}]"},
            [
                "19:40: overrides[0].instance: 'b' runs 'small', which service 'paint' does not list under models"
            ],
            id="an instance of another service",
        ),
        pytest.param(
            {
                19: "overrides:\n  - {service: chat, instance: a, min_share: 60%}\n  - {service: chat, instance: b, min_share: 0.5}"
            },
            [
                "21:45: overrides[1].min_share: brings the least shares of 'chat' to 110%; together at most 100%"
            ],
            id="more least shares than there are",
        ),
        pytest.param(
            {19: "overrides: [{instance: a, weight: -1}]"},
            ["19:35: overrides[0].weight: -1 is too small; at least 0"],
            id="a negative weight",
        ),
        pytest.param(
            {
                3: "  - {name: cloud, kind: clod, region: eu-west}",
                17: '  - {name: a, site: clout, address: "10.0.0.1:8000", modle: big}',
                19: "steering: {period: 1}",
            },
            [
                "3:25: sites[0].kind: 'clod' is not one of cloud, edge, device; did you mean 'cloud'?",
                "17:21: instances[0].site: no site is named 'clout'; did you mean 'cloud'?",
                "17:54: instances[0].modle: unknown key 'modle'; did you mean 'model'?",
                "19:20: steering.period: 1 has no unit; write a duration such as 250ms or 1s",
            ],
            id="many at once",
        ),
        pytest.param(
            {19: 'envoy: {instance_tls: {ca: ca.crt, names: ["10.0.0.*"], secrets: /etc/cats}}'},
            [
                "19:28: envoy.instance_tls.ca: must begin with /: Envoy would look below where it was started",
                "19:44: envoy.instance_tls.names[0]: an IP address stands alone in a certificate; write it out",
            ],
            id="TLS to instances with a relative path and part of an address",
        ),
        pytest.param(
            {19: "envoy: {instance_tls: {ca: /ca.crt, cert: /c.crt, names: []}}"},
            ["19:58: envoy.instance_tls.names: the list is empty; give at least 1 entry"],
            id="TLS to instances without names",
        ),
        pytest.param(
            {19: "envoy: {instance_tls: {ca: /ca.crt, cert: /c.crt, names: [a]}}"},
            ["19:23: envoy.instance_tls: cert and key go together; set both or neither"],
            id="a certificate without a key",
        ),
    ],
)
def test_a_broken_file_is_reported_with_its_place_and_the_remedy(
    lines: dict[int, str | None], expected: list[str]
) -> None:
    """Every fault of the file is reported, nothing else, each where it is and with what is right."""
    assert expected == faults_in(changed(lines))


def test_the_base_of_the_cases_is_valid() -> None:
    """What the cases change is right before they change it."""
    assert [] == faults_in(BASE)


def test_a_thousand_faults_are_all_reported() -> None:
    """A long file with many mistakes is fixed in one round."""
    lines = "".join(f"  - {{name: s{i}, kind: moon}}\n" for i in range(1000))
    text = f"version: 1\nsites:\n{lines}models: []\nservices: []\n"

    assert 1002 == len(faults_in(text))


def test_names_that_cannot_be_read_do_not_make_others_dangle() -> None:
    """A fault in a name is reported once, not again at everything that refers to it."""
    text = changed({7: "  - {nam: big, kind: foundation}"})

    assert ["7:6: models[0].nam: unknown key 'nam'; did you mean 'name'?"] == faults_in(text)


def test_a_fault_fits_on_one_line_whatever_the_file_holds() -> None:
    """A terminal and a log see one printable line for each fault."""
    hostile = '"' + "\\e[2J\\n" * 300 + '"'

    (fault,) = faults_in(changed({7: f"  - {{name: big, kind: foundation, {hostile}: 1}}"}))

    assert fault.isprintable()
    assert len(fault) < 2000
