"""The JSON schema of the gateway's configuration, read from docs/configuration.md.

So a misspelt setting is refused by Helm, before anything is installed. What a value must look like is
only checked as far as the page says it in words that a machine can read; the gateway checks the rest.
"""

import re
from pathlib import Path

SETTING = re.compile(r"^### `(\w+)\.(\w+)`$")
SECTION = re.compile(r"^## `\[(\w+)\]`$")
FACT = re.compile(r"^- (Default|Allowed): (.*)$")
RANGE = re.compile(r"^a whole number, from (\d+) to (\d+)$")
OR_WORD = re.compile(r"^`(\w+)`, or (.*)$")
WORDS = re.compile(r"^(?:one of )?`[^`]+`(?:, `[^`]+`)*$")

# As the gateway reads them: several numbers with their units, and one.
UNITS = "nanos|nsec|ns|usec|us|millis|msec|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|months?|M|years?|yrs?|y"
DURATION = rf"( *[0-9]+(\.[0-9]+)? *({UNITS}) *)+"
SIZE = " *[0-9]+ *(([KkMmGgTt][Ii]?)?[Bb])? *"
ADDRESS = r"connection|[0-9.]+|dns:[^/]+"
SERVICE = r"service:[^/]+/[^/]+"
STORE_NAME = "^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
FILE = {"type": "object", "additionalProperties": False, "properties": {"file": {"type": "string", "minLength": 1}}, "required": ["file"]}


def schema(page: Path) -> dict:
    """Each section an object that takes its settings and no others."""
    properties = {
        section: {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: setting(facts) for name, facts in settings.items()},
        }
        for section, settings in sections(page.read_text()).items()
    }
    of_named = {**properties["store"]["properties"], "url": {"type": "string"}}
    named = {**properties["store"], "properties": of_named, "required": ["url"]}
    properties["stores"] = {
        "type": "object",
        "propertyNames": {"pattern": STORE_NAME, "maxLength": 63, "not": {"const": "default"}},
        "additionalProperties": named,
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def sections(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """Section, setting, and what the page says of it: its default and what is allowed."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    facts: dict[str, str] = {}
    for line in text.splitlines():
        if match := SECTION.match(line):
            found[match[1]] = {}
        elif match := SETTING.match(line):
            facts = found[match[1]][match[2]] = {"Default": "", "Allowed": ""}
        elif match := FACT.match(line):
            facts[match[1]] = match[2]
    return found


def setting(facts: dict[str, str]) -> dict:
    """What one setting takes; null leaves it out, as everywhere in Helm."""
    taken = kind(facts["Default"], facts["Allowed"])
    if "enum" in taken:
        return {"enum": [*taken["enum"], None]}
    types = taken["type"] if isinstance(taken["type"], list) else [taken["type"]]
    return {**taken, "type": [*types, "null"]}


def kind(default: str, allowed: str) -> dict:
    """What the words of the page mean. Some settings also take one word, such as `none`."""
    if match := OR_WORD.match(allowed):
        return or_word(match[1], kind(default, match[2]))
    if allowed == "true or false":
        return {"type": "boolean"}
    if match := RANGE.match(allowed):
        return {"type": "integer", "minimum": int(match[1]), "maximum": int(match[2])}
    if allowed == "a whole number":
        return {"type": "integer", "minimum": 0}
    if allowed.startswith("a duration"):
        return {"type": "string", "pattern": f"^{DURATION}$"}
    if allowed.startswith("a size"):
        return {"type": ["string", "integer"], "pattern": f"^{SIZE}$"}
    if WORDS.match(allowed):
        return {"enum": re.findall(r"`([^`]+)`", allowed)}
    if "`{ file = " in allowed:
        return {"type": "object", "additionalProperties": {"anyOf": [{"type": ["string", "integer", "boolean", "null"]}, FILE]}}
    if "`dns:" in allowed:
        taken = {"type": "string", "pattern": rf"^({ADDRESS}|{SERVICE})$"}
        return {"type": "object", "additionalProperties": {"type": ["string", "null"], "pattern": rf"^({ADDRESS})$"}} if default.startswith("`{") else taken
    if default.startswith("`{"):
        return {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
    if allowed.startswith("a list of"):
        return {"type": ["array", "string"], "items": {"type": "string"}}
    if allowed.startswith("ports"):
        return {"type": ["string", "integer"]}
    return {"type": "string"}


def or_word(word: str, taken: dict) -> dict:
    """The same, or the word."""
    if "pattern" in taken:
        return {**taken, "pattern": f"^({word}|{taken['pattern'][1:-1]})$"}
    if taken["type"] == "string":
        return taken
    return {**taken, "type": [taken["type"], "string"], "pattern": f"^{word}$"}
