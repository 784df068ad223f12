"""The configuration reference, in Markdown, from the schema that parses.

``python -m controlplane.config.reference`` writes docs/configuration.md; a test keeps it current.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from controlplane.config.json_schema import config_schema

_HEAD = """# Configuration reference

Everything that `fleet.yaml` may say, generated from the schema that reads it.
`cats check FILE` tells every fault with its place, and `cats schema` prints the same for editors.
Durations are written `250ms`, `1s`, `10m`; shares `30%`.
Sizes are written `2MB`, rates `100Mbps`, power `300W`.
"""


def reference() -> str:
    """Give the whole document."""
    schema = config_schema()
    sections = [_section("fleet.yaml", schema)]
    sections += [_section(name, node) for name, node in sorted(schema["$defs"].items())]
    return "\n".join([_HEAD, *sections])


def _section(name: str, node: Mapping[str, Any]) -> str:
    lines = [f"## {name}", "", *_sentences(node.get("description", "")), ""]
    if "enum" in node:
        lines += [f"One of {', '.join(f'`{value}`' for value in node['enum'])}.", ""]
    properties = node.get("properties", {})
    if properties:
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += _rows(properties, frozenset(node.get("required", ())))
        lines.append("")
    return "\n".join(lines)


def _rows(properties: Mapping[str, Any], required: frozenset[str]) -> Iterator[str]:
    for key, node in properties.items():
        default = "required" if key in required else _code(node.get("default"))
        meaning = " ".join(_sentences(node.get("description", ""))).replace("|", "\\|")
        yield f"| `{key}` | {_kind(node)} | {default} | {meaning} |"


def _code(value: object) -> str:
    if value is None:
        return ""
    shown = str(value).lower() if isinstance(value, bool) else value
    return f"`{shown}`" if str(shown) else ""


def _sentences(text: str) -> list[str]:
    return text.replace("``", "`").replace("\n", " ").replace(". ", ".\n").splitlines()


def _kind(node: Mapping[str, Any]) -> str:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in node:
        return " or ".join(
            dict.fromkeys(_kind(item) for item in node["anyOf"] if item.get("type") != "null")
        )
    if node.get("examples"):
        return f"as `{node['examples'][0]}`"
    if "const" in node:
        return f"`{node['const']}`"
    match node.get("type"):
        case "array":
            return f"list of {_kind(node.get('items', {}))}"
        case "object":
            return "mapping"
        case list() as kinds:
            return " or ".join(kinds)
        case str() as kind:
            return {"string": "text", "boolean": "true or false"}.get(kind, kind)
    return "value"


if __name__ == "__main__":
    import pathlib

    pathlib.Path("docs/configuration.md").write_text(reference(), encoding="utf-8")
