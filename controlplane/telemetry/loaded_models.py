"""Which models an engine holds, by the list that it serves over HTTP.

OpenAI's list (``/v1/models``: vLLM, SGLang, LM Studio, llama.cpp's router) names models in
``data[].id``; Ollama's (``/api/ps``) in ``models[].name``. Servers that also list what they could
load mark each model: llama.cpp by ``status.value``, LM Studio by ``state``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.errors import ReportError
from controlplane.telemetry.engines.reading import MAX_LOADED

MAX_NAME = 256
"""Characters of a model's name; longer ones are none that a configuration has."""
LIST = "{"
"""How such a list begins, and no page of metrics."""


def parse_loaded_models(text: str) -> tuple[str, ...]:
    """Return the names of the models that the list *text* says are loaded, each once.

    Raises:
        ReportError: it is no such list.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"no JSON: {error}") from None
    entries = None
    if isinstance(document, dict):
        entries = document.get("data", document.get("models"))
    if not isinstance(entries, list):
        raise ReportError("no list of models: it has neither a list `data` nor a list `models`")
    held = (name for entry in entries if isinstance(entry, dict) for name in _names(entry))
    return tuple(dict.fromkeys(held))[:MAX_LOADED]


def _names(entry: Mapping[str, Any]) -> Iterator[str]:
    status = entry.get("status")
    state = status.get("value") if isinstance(status, dict) else entry.get("state", "loaded")
    name = entry.get("id", entry.get("name"))
    if state == "loaded" and isinstance(name, str) and 0 < len(name) <= MAX_NAME:
        yield name
