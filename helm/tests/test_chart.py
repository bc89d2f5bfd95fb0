"""The chart itself: what is made is up to date, lint, the unit suites, what the schema refuses."""

import json
import subprocess
import sys
import tomllib
import unittest

import yaml

from support import CHART, REPOSITORY, SCENARIOS, helm, template


class Chart(unittest.TestCase):
    """What holds without any cluster."""

    def test_generated_files_are_what_their_sources_say(self) -> None:
        result = subprocess.run([sys.executable, REPOSITORY / "helm" / "generate", "--check"], text=True, capture_output=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_version_is_that_of_the_gateway(self) -> None:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertIn(f'\nversion = "{chart["appVersion"]}"\n', (REPOSITORY / "Cargo.toml").read_text())

    def test_lint_finds_nothing(self) -> None:
        for scenario in SCENARIOS:
            with self.subTest(scenario.name):
                result = helm("lint", "--strict", str(CHART), "--values", str(scenario))
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_unit_suites_pass(self) -> None:
        result = subprocess.run(["helm-unittest", "--strict", str(CHART)], text=True, capture_output=True, check=False)
        print(result.stdout)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertRegex(result.stdout, r"Tests: +[1-9]")


class Schema(unittest.TestCase):
    """Whatever is misspelt is refused, and said where."""

    def test_unknown_keys_are_refused_at_every_level(self) -> None:
        schema = json.loads((CHART / "values.schema.json").read_text())
        paths = list(objects(schema, []))
        self.assertGreater(len(paths), 40)
        for path in paths:
            with self.subTest(".".join(path)):
                result = template(json.dumps(nested([*path, "notThere"], 1)))
                self.assertNotEqual(result.returncode, 0)
                self.assertIn("additional properties 'notThere' not allowed", result.stderr)

    def test_every_object_is_closed_unless_the_api_checks_it(self) -> None:
        schema = json.loads((CHART / "values.schema.json").read_text())
        groups = yaml.safe_load((REPOSITORY / "helm" / "source" / "values.yaml").read_text())
        free = {path for group in groups for name, value in group["values"].items() for path in of_the_api(value, name)}
        # Names of the operator's own choice, or of a library's.
        free |= {"global", "config.store.options", "config.passive.overrides"}
        self.assertLessEqual({".".join(path) for path in open_objects(schema, [])}, free)

    def test_users_have_the_keys_of_the_example(self) -> None:
        example = tomllib.loads((REPOSITORY / "docs" / "users.example.toml").read_text())
        keys = {key for user in example["user"] for key in user}
        schema = json.loads((CHART / "values.schema.json").read_text())
        self.assertEqual(keys, schema["properties"]["users"]["properties"]["list"]["items"]["properties"].keys())

    def test_a_misspelt_setting_is_refused(self) -> None:
        result = template("config: {upload: {memroy: 64 MiB}}")
        self.assertIn("memroy", result.stderr)
        self.assertNotEqual(result.returncode, 0)

    def test_wrong_types_are_refused(self) -> None:
        for values in ("replicaCount: many", "service: {type: Balancer}", "config: {limits: {max_sessions: 0}}",
                       "image: {digest: sha256:short}", "users: {list: [{password_hash: x}]}"):  # fmt: skip
            with self.subTest(values):
                self.assertNotEqual(template(values).returncode, 0)


def objects(schema: dict, path: list[str]):
    """The paths of all objects that are closed."""
    if schema.get("additionalProperties") is False:
        yield path
    for name, below in schema.get("properties", {}).items():
        yield from objects(below, [*path, name])


def open_objects(schema: dict, path: list[str]):
    """The paths of all objects that take any key with any value."""
    if schema.get("type") == "object" and "additionalProperties" not in schema:
        yield path
    for name, below in schema.get("properties", {}).items():
        yield from open_objects(below, [*path, name])


def of_the_api(value: dict, path: str):
    """The paths of all values that are as in the Kubernetes API."""
    if "api" in value:
        yield path
    for name, below in value.get("properties", {}).items():
        yield from of_the_api(below, f"{path}.{name}")


def nested(path: list[str], value: object) -> object:
    """The value below these keys."""
    return {path[0]: nested(path[1:], value)} if path else value
