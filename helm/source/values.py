"""values.yaml, values.schema.json and the table of values, from the list in values.yaml beside this file."""

import json
import re
import textwrap
from typing import Any, Iterator

import yaml

MADE = "Made by helm/generate from helm/source; edit it there."
WIDTH = 110


def values_yaml(groups: list[dict]) -> str:
    """The defaults, each below its meaning."""
    lines = [f"# {MADE}", "#", "# The same as a table, and how to install: README.md."]
    for group in groups:
        lines += ["", f"# --- {group['title']} ---"]
        lines += comment(group["about"], "")
        for name, value in group["values"].items():
            lines += ["", *value_lines(name, value, "")]
    return "\n".join(lines) + "\n"


def value_lines(name: str, value: dict, indent: str) -> Iterator[str]:
    """One value with its comment, and what is below it."""
    yield from comment(value["description"], indent)
    if "properties" in value and "default" not in value:
        yield f"{indent}{name}:"
        for inner, below in value["properties"].items():
            yield from value_lines(inner, below, indent + "  ")
        return
    yield from default_lines(name, value["default"], indent)
    for line in value.get("example", "").splitlines():
        yield f"{indent}#   {line}" if line else f"{indent}#"


def default_lines(name: str, default: Any, indent: str) -> list[str]:
    """A default on its line, or below it where it is an object with something in it."""
    if not isinstance(default, dict) or not default:
        return [f"{indent}{name}: {json.dumps(default)}"]
    text = yaml.safe_dump(default, sort_keys=False, default_flow_style=False)
    return [f"{indent}{name}:", *textwrap.indent(text.rstrip(), indent + "  ").splitlines()]


def comment(text: str, indent: str) -> list[str]:
    """A text as comment lines."""
    prefix = f"{indent}# "
    return textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix)


def schema_json(groups: list[dict], settings: dict) -> str:
    """The schema, which refuses unknown keys at every level that is not the API's own."""
    document = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": MADE,
        "type": "object",
        "additionalProperties": False,
        # Helm itself puts `global` there when the chart is a part of another.
        "properties": {"global": {"type": "object"}},
        "required": [*(name for group in groups for name, value in group["values"].items() if not nullable(value))],
    }
    for group in groups:
        for name, value in group["values"].items():
            document["properties"][name] = schema(value, settings)
    return json.dumps(document, indent=2) + "\n"


def nullable(value: dict) -> bool:
    """Whether null is a way of leaving it out; else the templates rely on there being something."""
    if "default" not in value and "properties" not in value:
        # An item's, which has none.
        return True
    empty_list = value.get("type") == "array" and not value["default"]
    return empty_list or "null" in value.get("type", []) or bool({"api", "text", "optional"} & value.keys())


def schema(value: dict, settings: dict) -> dict:
    """The schema of one value."""
    if value.get("alert"):
        return {"enum": settings["alerts"]}
    if value.get("configuration"):
        return {"description": value["description"], **settings["config"]}
    if value.get("text"):
        return {**described(value), "type": "object", "additionalProperties": {"type": "string"}}
    if "api" in value:
        kind = "array" if value["api"].startswith("list of") else "object"
        return {**described(value), "type": kind}
    if "properties" in value:
        inner = {name: schema(below, settings) for name, below in value["properties"].items()}
        # Else null would take a default away: Helm drops such keys before it looks at the schema.
        needed = [*value.get("required", []), *(name for name, below in value["properties"].items() if not nullable(below))]
        rules = {"required": needed} if needed else {}
        rules |= {"anyOf": value["anyOf"]} if "anyOf" in value else {}
        return {**described(value), "type": "object", "additionalProperties": False, "properties": inner, **rules}
    plain = {key: what for key, what in value.items() if key not in ("default", "example", "optional")}
    if "items" in plain:
        plain["items"] = schema(plain["items"], settings)
    return plain


def described(value: dict) -> dict:
    """Its meaning, where it has one."""
    return {"description": value["description"]} if "description" in value else {}


def readme(groups: list[dict], head: str) -> str:
    """The chart's README: a text, then a table for each group."""
    parts = [f"<!-- {MADE} -->", "", head.rstrip(), "", "## Values"]
    for group in groups:
        parts += ["", f"### {group['title']}", "", group["about"], "", "| value | default | meaning |", "|---|---|---|"]
        for name, value in group["values"].items():
            parts += rows(name, value)
    return "\n".join(parts) + "\n"


def rows(path: str, value: dict) -> Iterator[str]:
    """The rows of a value and of what is below it."""
    if "properties" in value and "default" not in value:
        yield f"| `{path}` | | {cell(value['description'])} |"
        for name, below in value["properties"].items():
            yield from rows(f"{path}.{name}", below)
        return
    default = json.dumps(value["default"])
    yield f"| `{path}` | {code(default)} | {cell(value['description'])}{allowed(value)} |"
    for name, below in value.get("items", {}).get("properties", {}).items():
        yield f"| `{path}[].{name}` | | {cell(below['description'])}{allowed(below)} |"


def allowed(value: dict) -> str:
    """What it takes, after the meaning."""
    if "api" in value:
        return f" As in the API: {value['api']}."
    if "enum" in value:
        return " One of " + ", ".join(code(json.dumps(word)) for word in value["enum"]) + "."
    return ""


def code(text: str) -> str:
    """A text as code, in a cell of a table."""
    return "`" + cell(text) + "`"


def cell(text: str) -> str:
    """A text that can't end its cell."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|")
