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
WORDS = re.compile(r"^(?:one of )?`[^`]+`(?:, `[^`]+`)+$")


def schema(page: Path) -> dict:
    """Each section an object that takes its settings and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            section: {
                "type": "object",
                "additionalProperties": False,
                "properties": {name: setting(facts) for name, facts in settings.items()},
            }
            for section, settings in sections(page.read_text()).items()
        },
    }


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
    """What one setting takes."""
    allowed = facts["Allowed"]
    if allowed == "true or false":
        return {"type": "boolean"}
    if match := RANGE.match(allowed):
        return {"type": "integer", "minimum": int(match[1]), "maximum": int(match[2])}
    if WORDS.match(allowed):
        return {"enum": re.findall(r"`([^`]+)`", allowed)}
    if facts["Default"].startswith("`{"):
        return {"type": "object"}
    if allowed.startswith("a list of"):
        return {"type": ["array", "string"], "items": {"type": "string"}}
    return {"type": ["string", "integer"]}
