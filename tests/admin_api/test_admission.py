"""Fleets that the Kubernetes API server asks about before it stores them."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from controlplane.admin_api.admission import MAX_WARNING, review_fleet
from controlplane.runtime.tls import client_context
from testbed.fakes.certificates import Authority
from testbed.processes.control_planes import ControlPlaneProcess

FLEET = """\
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services: [{name: chat, match: [{path: /chat}], models: [{name: m}]}]
instances: [{name: a, site: north, address: "10.0.0.1:8000", model: m}]
"""


def review(data: Any, **more: Any) -> dict[str, Any]:
    """Return the request of an AdmissionReview on a ConfigMap."""
    return {"uid": "u-1", "object": {"kind": "ConfigMap", "data": data}, **more}


def test_a_sound_fleet_is_allowed() -> None:
    """And whatever else a ConfigMap holds is no one's business."""
    assert {"uid": "u-1", "allowed": True} == review_fleet(
        review({"fleet.yaml": FLEET, "notes.txt": "version: 9"})
    )


def test_a_faulty_fleet_is_refused_with_every_error_at_its_place() -> None:
    """As `cats check` prints them, since kubectl prints the message as it is."""
    faulty = FLEET.replace("kind: edge", "kind: edgy").replace("site: north,", "site: nroth,")
    answer = review_fleet(review({"fleet.yaml": faulty}))
    lines = answer["status"]["message"].splitlines()

    assert (False, 422) == (answer["allowed"], answer["status"]["code"])
    assert ["fleet.yaml:2:29: sites[0].kind", "fleet.yaml:5:29: instances[0].site"] == [
        line.partition(": '")[0].partition(": no ")[0] for line in lines
    ]


def test_what_is_allowed_and_odd_is_a_warning() -> None:
    """Kubectl shows warnings of a request that succeeds."""
    lonely = FLEET.replace("models: [{name: m}]\n", "models: [{name: m}, {name: n}]\n", 1).replace(
        "models: [{name: m}]}", "models: [{name: m}, {name: n}]}"
    )
    answer = review_fleet(review({"fleet.yaml": lonely}))

    assert answer["allowed"] is True
    assert all(len(text) <= MAX_WARNING for text in answer.get("warnings", ()))


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(review(None), id="no data"),
        pytest.param({"uid": "u-1", "object": None}, id="a deletion"),
        pytest.param(review({"fleet.yaml": 7}), id="no text"),
    ],
)
def test_what_holds_no_fleet_is_allowed(request_: dict[str, Any]) -> None:
    """A webhook that fails would stop what is none of its business."""
    assert {"uid": "u-1", "allowed": True} == review_fleet(request_)


async def test_a_control_plane_answers_the_api_server(tmp_path: Path) -> None:
    """Over TLS, without a token, at one address; what is no review, or too large, is refused."""
    authority, taken = Authority(tmp_path), socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    pair = authority.issue("127.0.0.2")
    file = tmp_path / "fleet.yaml"
    webhook = f"{{address: 127.0.0.2, port: {port}, cert: {pair.cert}, key: {pair.key}}}"
    file.write_text(f"{FLEET}server: {{webhook: {webhook}}}\n", encoding="utf-8")
    trust = client_context(str(authority.ca))
    url = f"https://127.0.0.2:{port}/validate-fleet"
    sound = {"request": review({"fleet.yaml": FLEET})}
    faulty = {"request": review({"fleet.yaml": FLEET.replace("version: 1", "version: 9")})}
    async with ControlPlaneProcess(file) as control, aiohttp.ClientSession() as http:
        await control.wait_ready()
        answers = []
        for body in (json.dumps(sound), json.dumps(faulty), "[]", "x" * 5_000_000):
            async with http.post(url, data=io.BytesIO(body.encode()), ssl=trust) as answer:
                answers.append((answer.status, await answer.read()))
        assert "Traceback" not in control.log()
    taken.close()

    assert [200, 200, 400, 413] == [status for status, _ in answers]
    allowed, refused = (json.loads(body) for _, body in answers[:2])
    assert "AdmissionReview" == allowed["kind"]
    assert allowed["response"]["allowed"] is True
    assert refused["response"]["allowed"] is False
    assert refused["response"]["status"]["message"].startswith("fleet.yaml:1:10: version: ")
