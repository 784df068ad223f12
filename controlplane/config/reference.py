"""The reference of a configuration file, in Markdown, from the JSON Schema of what reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def reference(schema: Mapping[str, Any], *, head: str) -> str:
    """Return the whole document: *head*, then a table for each kind of section."""
    definitions = schema["$defs"]
    sections = [_section(str(schema["title"]), schema, definitions)]
    sections += [_section(name, node, definitions) for name, node in sorted(definitions.items())]
    return "\n".join([head, *sections])


def _section(name: str, node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    lines = [f"## {name}", "", *_sentences(node.get("description", "")), ""]
    if "enum" in node:
        lines += [f"One of {', '.join(f'`{value}`' for value in node['enum'])}.", ""]
    properties = node.get("properties", {})
    if properties:
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += _rows(properties, frozenset(node.get("required", ())), definitions)
        lines.append("")
    return "\n".join(lines)


def _rows(
    properties: Mapping[str, Any], required: frozenset[str], definitions: Mapping[str, Any]
) -> Iterator[str]:
    for key, node in properties.items():
        default = "required" if key in required else _code(node.get("default"))
        text = node.get("description") or _meaning_of_kind(node, definitions)
        meaning = " ".join(_sentences(text)).replace("|", "\\|")
        yield f"| `{key}` | {_kind(node)} | {default} | {meaning} |"


def _meaning_of_kind(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the first sentence of what a key refers to; empty if it refers to nothing."""
    for each in (node, node.get("items", {}), *node.get("anyOf", ())):
        if "$ref" in each:
            text = str(definitions[each["$ref"].rsplit("/", 1)[-1]].get("description", ""))
            return " ".join(text.split()).split(". ")[0].rstrip(".") + "."
    return ""


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
