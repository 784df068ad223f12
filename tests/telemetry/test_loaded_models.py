"""Lists of the models that engines hold."""

from __future__ import annotations

import json

import pytest

from controlplane.errors import ReportError
from controlplane.telemetry.engines.reading import MAX_LOADED
from controlplane.telemetry.loaded_models import MAX_NAME, parse_loaded_models

OPENAI = {"object": "list", "data": [{"id": "base", "object": "model"}, {"id": "a", "parent": "b"}]}
OLLAMA = {"models": [{"name": "llama3.2:3b", "model": "llama3.2:3b", "size_vram": 1}]}
LLAMACPP = {
    "data": [
        {"id": "in", "status": {"value": "loaded"}},
        {"id": "out", "status": {"value": "unloaded"}},
    ]
}
LM_STUDIO = {"data": [{"id": "in", "state": "loaded"}, {"id": "out", "state": "not-loaded"}]}


@pytest.mark.parametrize(
    ("document", "names"),
    [
        pytest.param(OPENAI, ("base", "a"), id="OpenAI's"),
        pytest.param(OLLAMA, ("llama3.2:3b",), id="Ollama's"),
        pytest.param(LLAMACPP, ("in",), id="llama.cpp's router"),
        pytest.param(LM_STUDIO, ("in",), id="LM Studio's"),
        pytest.param({"models": []}, (), id="nothing loaded"),
        pytest.param({"data": [{"id": 1}, 2, {"id": "m" * (MAX_NAME + 1)}]}, (), id="no names"),
        pytest.param({"data": [{"id": "m"}, {"id": "m"}]}, ("m",), id="repeated"),
    ],
)
def test_a_list_names_what_is_loaded(document: object, names: tuple[str, ...]) -> None:
    """In the form of each engine."""
    assert names == parse_loaded_models(json.dumps(document))


def test_a_list_is_bounded() -> None:
    """As a page of metrics is."""
    many = {"data": [{"id": str(number)} for number in range(MAX_LOADED + 1)]}

    assert MAX_LOADED == len(parse_loaded_models(json.dumps(many)))


@pytest.mark.parametrize("text", ["", "<html>", "[]", "{}", '{"data": {}}', "[" * 100_000, "1"])
def test_what_is_no_list_is_refused(text: str) -> None:
    """With the reason, and never otherwise than by a fault of the report."""
    with pytest.raises(ReportError, match=r"JSON|list"):
        parse_loaded_models(text)
