"""Engines and models no one here wrote: llama.cpp's own server, and models of all kinds."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image, ImageDraw

from testbed.processes.children import Children
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.envoys import running_envoy
from testbed.processes.ports import free_ports

EXAMPLE = Path(__file__).parents[2] / "examples" / "real_models"

pytestmark = pytest.mark.envoy


FLEET = """\
version: 1
sites:
  - {{name: cloud, kind: cloud}}
  - {{name: edge, kind: edge, listener: {{address: 127.0.0.1, port: {listener}}}}}
  - {{name: phones, kind: device}}
models:
  - {{name: foundation}}
  - {{name: customised, kind: customised, base: foundation}}
  - {{name: pruned, kind: pruned, base: foundation}}
services:
  - name: chat
    match: [{{path: /v1/chat/completions}}]
    models:
      - {{name: customised}}
      - {{name: foundation, penalty: 5ms}}
      - {{name: pruned, penalty: 600ms}}
instances:
{instances}
steering: {{period: 500ms}}
envoy: {{address: 127.0.0.1, load_period: 500ms}}
"""
ROLES = {"foundation": ("cloud", 6), "customised": ("edge", 2), "pruned": ("edge", 1)}
"""Model -> its site, and the layers that make it slow or quick."""


async def test_llama_cpp_itself_is_scraped_and_steered_to(tmp_path: Path) -> None:
    """Three real servers, a real Envoy: signals are read, requests answered by the engine."""
    *ports, listener = free_ports(4)
    lines = []
    async with Children(tmp_path / "logs") as children, aiohttp.ClientSession() as client:
        for (name, (site, layers)), port in zip(ROLES.items(), ports, strict=True):
            model = tmp_path / f"{name}.gguf"
            write = [sys.executable, str(EXAMPLE / "tiny_gguf.py"), str(model)]
            writing = await asyncio.create_subprocess_exec(*write, "--layers", str(layers))
            assert 0 == await writing.wait()
            serve = [sys.executable, str(EXAMPLE / "llama_server.py"), "--model", str(model)]
            await children.start(name, [*serve, "--port", str(port)])
            scrape = f'{{url: "http://127.0.0.1:{port}/metrics", period: 500ms, timeout: 500ms}}'
            lines.append(
                f'  - {{name: {name}, site: {site}, address: "127.0.0.1:{port}", model: {name},'
                f" engine: llamacpp, slots: 2, service_time: 50ms, scrape: {scrape}}}"
            )
        fleet = tmp_path / "fleet.yaml"
        fleet.write_text(FLEET.format(listener=listener, instances="\n".join(lines)))
        async with ControlPlaneProcess(fleet) as plane:
            await plane.wait_ready()
            await plane.wait_for(
                "/api/v1/fleet",
                lambda d: all(i["phase"] in ("live", "starting") for i in d["instances"]),
                "know all three engines",
                within=60,
            )
            async with running_envoy(await bootstrap(fleet, plane.xds_port)):
                answered = await ask(client, f"http://127.0.0.1:{listener}", 40)
            document = await plane.wait_for(
                "/api/v1/fleet",
                lambda d: all(
                    i["signals"].get("output_tokens", {}).get("value", 0) > 0
                    for i in d["instances"]
                    if answered[i["name"]]
                ),
                "read what the engines generated",
            )

    assert 40 == sum(answered.values())
    assert answered["customised"] > answered["pruned"]
    for one in document["instances"]:
        assert [] == one["missing"]
        assert {"running", "waiting", "prompt_tokens", "output_tokens"} <= one["signals"].keys()
        assert {"scrape"} == {reading["source"] for reading in one["signals"].values()}


async def bootstrap(fleet: Path, port: int) -> str:
    """Return the bootstrap of an Envoy at the edge, as an operator would make it."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controlplane", "bootstrap", "-c", str(fleet)),
        *("--site", "edge", "--id", "e1", "--xds", f"127.0.0.1:{port}", "--admin-port", "0"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate()
    return output.decode()


async def ask(client: aiohttp.ClientSession, url: str, count: int) -> Counter[str]:
    """Ask *count* questions; count who answered."""
    answered: Counter[str] = Counter()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
    async with asyncio.timeout(180):
        while sum(answered.values()) < count:
            # The listener may come after the first request.
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with client.post(f"{url}/v1/chat/completions", json=body) as answer:
                    if answer.status == 200:
                        said = await answer.json()
                        assert said["usage"]["completion_tokens"] > 0
                        answered[answer.headers["x-cats-instance"]] += 1
                        continue
            await asyncio.sleep(0.1)
    return answered


async def test_text_vision_audio_and_multimodal_are_steered_to_real_models(tmp_path: Path) -> None:
    """Each kind of request reaches a model of its kind, and the answer is the model's."""
    picture = Image.new("RGB", (240, 60), "white")
    ImageDraw.Draw(picture).text((20, 10), "EDGE 42", fill="black", font_size=36)
    written = io.BytesIO()
    picture.save(written, "PNG")
    text = (EXAMPLE / "fleet.yaml").read_text()
    *ports, listener = free_ports(7)
    for number, port in enumerate(ports):
        text = text.replace(str(9101 + number), str(port))
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(text.replace("port: 10000", f"port: {listener}"))
    models = ("embedding", "embedding-short", "embedding-pruned", "reading", "speech", "document")
    async with Children(tmp_path / "logs") as children, aiohttp.ClientSession() as client:
        for name, port in zip(models, ports, strict=True):
            serve = [sys.executable, str(EXAMPLE / "model_server.py"), "--model", name]
            await children.start(name, [*serve, "--port", str(port)])
        async with ControlPlaneProcess(fleet) as plane:
            await plane.wait_ready()
            await plane.wait_for(
                "/api/v1/fleet",
                lambda d: all("slots" in i["signals"] for i in d["instances"]),
                "know all six models",
                within=180,
            )
            async with running_envoy(await bootstrap(fleet, plane.xds_port)):
                url = f"http://127.0.0.1:{listener}"
                near, (embedded, alike, other) = await embed(client, f"{url}/v1/embeddings")
                _, read = await post(client, f"{url}/v1/images/text", written.getvalue())
                _, heard = await post(client, f"{url}/v1/audio/transcriptions", bytes(32_000))
                _, document = await post(client, f"{url}/v1/documents", written.getvalue())

    assert near.startswith("embed-")
    assert dot(embedded, alike) > dot(embedded, other) + 0.1
    assert "EDGE" in read["text"]
    assert isinstance(heard["text"], str)
    assert "EDGE" in document["text"]
    assert 384 == len(document["embedding"])


TEXTS = (b"a cat on a mat", b"the kitten on the rug", b"interest rates rose")


async def embed(
    client: aiohttp.ClientSession, url: str
) -> tuple[str, list[dict[str, list[float]]]]:
    """Ask until one instance has embedded all texts: vectors of different models do not compare."""
    found: defaultdict[str, dict[bytes, dict[str, list[float]]]] = defaultdict(dict)
    while True:
        for text in TEXTS:
            name, vector = await post(client, url, text)
            found[name][text] = vector
            if len(found[name]) == len(TEXTS):
                return name, [found[name][one] for one in TEXTS]


async def post(client: aiohttp.ClientSession, url: str, body: bytes) -> tuple[str, Any]:
    """Ask until there is a route; give who answered, and what."""
    async with asyncio.timeout(180):
        while True:
            # The listener may come after the first request.
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with client.post(url, data=body) as answer:
                    if answer.status == 200:
                        return answer.headers["x-cats-instance"], await answer.json()
            await asyncio.sleep(0.1)


def dot(a: dict[str, list[float]], b: dict[str, list[float]]) -> float:
    """Return the cosine of two unit vectors."""
    return sum(x * y for x, y in zip(a["embedding"], b["embedding"], strict=True))
