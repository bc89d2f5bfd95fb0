"""The chart itself: what is made is up to date, lint, the unit suites, what the schema refuses."""

import json
import re
import subprocess
import sys
import tomllib
import unittest

import configuration
import jsonschema
import yaml

from support import CHART, CONFIGURATION, REPOSITORY, SCENARIOS, helm, template


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
        free |= {"global"}
        self.assertLessEqual({".".join(path) for path in open_objects(schema, [])}, free)

    def test_users_have_the_keys_of_the_example(self) -> None:
        text = (REPOSITORY / "docs" / "users.example.toml").read_text()
        # Some are written out of use: not every store has them.
        example = tomllib.loads(re.sub(r"^#(?=\w+ = )", "", text, flags=re.MULTILINE))
        keys = {key for user in example["user"] for key in user}
        schema = json.loads((CHART / "values.schema.json").read_text())
        self.assertEqual(keys, schema["properties"]["users"]["properties"]["list"]["items"]["properties"].keys())

    def test_a_misspelt_setting_is_refused(self) -> None:
        result = template("config: {upload: {memroy: 64 MiB}}")
        self.assertIn("memroy", result.stderr)
        self.assertNotEqual(result.returncode, 0)

    def test_settings_take_their_defaults_and_nothing_of_another_type(self) -> None:
        schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
        for section, settings in configuration.sections(CONFIGURATION.read_text()).items():
            for name, facts in settings.items():
                with self.subTest(f"{section}.{name}"):
                    takes = jsonschema.Draft7Validator(schema[section]["properties"][name]).is_valid
                    self.assertTrue(takes(tomllib.loads(f"it = {facts['Default'].strip('`')}")["it"]), facts["Default"])
                    self.assertTrue(takes(None))
                    self.assertEqual(takes(50), re.search("^(`none`, or )?a whole number|^ports|bytes", facts["Allowed"]) is not None, facts["Allowed"])
                    if "a duration" in facts["Allowed"] or "a size" in facts["Allowed"]:
                        self.assertEqual(takes("none"), facts["Allowed"].startswith("`none`"), facts["Allowed"])

    def test_what_the_gateway_takes_is_taken(self) -> None:
        for values in ("config: {ftp: {idle_timeout: 1h 30m}}", "config: {ftp: {idle_timeout: 1week2days}}", "config: {upload: {max_size: 5000000}}",
                       "config: {upload: {max_size: 10gb, resume_window: none}}", "config: {limits: {max_sessions_per_user: 5}}",
                       "config: {store: {options: {a: 1, b: true, c: x, d: {file: /x}, e: null}}}", "config: {upload: {memory: null}}",
                       "users: {list: [{name: x, certificate: device}]}"):  # fmt: skip
            with self.subTest(values):
                self.assertEqual(template(values).returncode, 0, template(values).stderr)

    def test_wrong_types_are_refused(self) -> None:
        for values in ("replicaCount: many", "service: {type: Balancer}", "config: {limits: {max_sessions: 0}}",
                       "image: {digest: sha256:short}", "users: {list: [{password_hash: x}]}", "users: {list: [{name: x}]}",
                       "nameOverride: Foo Bar", "fullnameOverride: Foo_bar", "tests: {image: ''}", "persistence: {size: 10gb}",
                       "tls: {certManager: {duration: 90d}}", "tls: {certManager: {privateKey: {sise: 256}}}",
                       "metrics: {prometheusRule: {disabled: [BucketferryAbsend]}}",
                       "users: {list: [{name: x, password_hash: y, max_size: 10000000}]}", "users: {list: [{name: x, password_hash: y, upload_rate: 5}]}",
                       "config: {ftp: {idle_timeout: 300}}", "config: {ftp: {idle_timeout: 5 minuets}}", "config: {upload: {max_size: 10 gigs}}", "config: {upload: {memory: 100Mi}}", "config: {upload: {memory: 64M}}",
                       "users: {list: [{name: x, password_hash: y, max_size: 10Mi}]}", "config: {passive: {address: 'service:foo'}}",
                       "config: {passive: {overrides: {10.0.0.0/8: 'service:a/b'}}}",
                       "config: {store: {options: {x: {fil: y}}}}", "config: {store: {options: {x: [y]}}}", "config: {active: {source_port: low}}"):  # fmt: skip
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
