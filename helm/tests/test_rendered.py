"""What the chart renders, for every scenario in ci/ and several versions of Kubernetes."""

import json
import re
import unittest
from collections.abc import Callable
from functools import wraps
from itertools import product
from typing import Any

import configuration
import kubernetes_validate
import values
import yaml

from restricted import violations
from support import (
    CHART, CONFIGURATION, NAMESPACE, NEWEST, REPOSITORY, SCENARIOS, VERSIONS, Manifest,
    gateway_pod, helm, of_kind, pods, public_services, rendered, template, toml_of, workload,
)  # fmt: skip

# Kinds of others, for which Kubernetes has no schema.
FOREIGN = {"Certificate", "ServiceMonitor", "PodMonitor", "PrometheusRule"}


def each(*versions: str):
    """Runs a test for every scenario, with each of these versions of Kubernetes."""

    def decorate(test: Callable[[unittest.TestCase, list[Manifest], str], None]) -> Callable[[unittest.TestCase], None]:
        @wraps(test)
        def all_of_them(self: unittest.TestCase) -> None:
            for scenario, version in product(SCENARIOS, versions):
                with self.subTest(scenario=scenario.name, kubernetes=version):
                    test(self, rendered(scenario, version), version)

        return all_of_them

    return decorate


class Rendered(unittest.TestCase):
    """Each test goes through all scenarios."""

    @each(*VERSIONS)
    def test_valid_by_strict_schemas_from_the_oldest_to_the_newest(self, manifests: list[Manifest], version: str) -> None:
        for manifest in manifests:
            if manifest["kind"] not in FOREIGN:
                kubernetes_validate.validate(manifest, version, strict=True)

    @each(NEWEST)
    def test_names_are_unique_and_all_is_in_its_namespace(self, manifests: list[Manifest], _: str) -> None:
        names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
        self.assertEqual(len(names), len(set(names)), names)
        for manifest in manifests:
            self.assertIn(manifest["metadata"].get("namespace", NAMESPACE), (NAMESPACE,))

    @each(*VERSIONS)
    def test_pods_are_restricted(self, manifests: list[Manifest], _: str) -> None:
        for pod in pods(manifests):
            self.assertEqual(violations(pod["spec"]), [])

    def test_the_check_of_pods_finds_what_it_should(self) -> None:
        pod: dict[str, Any] = gateway_pod(rendered(SCENARIOS[0]))["spec"]
        bad = {**pod, "hostNetwork": True, "enableServiceLinks": True, "securityContext": {}, "volumes": [{"name": "x", "hostPath": {}}]}
        self.assertEqual(len(violations(bad)), 5, violations(bad))

    @each(NEWEST)
    def test_services_reach_ports_and_pods_that_exist(self, manifests: list[Manifest], _: str) -> None:
        labels = gateway_pod(manifests)["metadata"]["labels"]
        ports = {port["name"] for port in gateway_pod(manifests)["spec"]["containers"][0]["ports"]}
        for service in of_kind(manifests, "Service"):
            selector = dict(service["spec"].get("selector", {}))
            selector.pop("statefulset.kubernetes.io/pod-name", None)
            self.assertLessEqual(selector.items(), labels.items())
            self.assertEqual(not selector, is_shared(manifests) and service in public_services(manifests))
            for port in service["spec"]["ports"]:
                self.assertTrue(port["targetPort"] in ports or port["targetPort"] == port["port"], port)
        for test in of_kind(manifests, "Pod"):
            for service in of_kind(manifests, "Service"):
                selector = service["spec"].get("selector")
                self.assertFalse(selector and selector.items() <= test["metadata"]["labels"].items(), "clients would be sent to the test")

    @each(NEWEST)
    def test_passive_ports_are_those_of_the_configuration(self, manifests: list[Manifest], _: str) -> None:
        first, last = map(int, re.search(r'^ports = "(\d+)-(\d+)"$', toml_of(manifests), re.M).groups())
        for service in public_services(manifests):
            passive = [port for port in service["spec"]["ports"] if port["name"].startswith("passive-")]
            self.assertEqual([port["port"] for port in passive], list(range(first, last + 1)))
            for port in passive:
                if service["spec"]["type"] == "NodePort":
                    self.assertEqual(port["nodePort"], port["port"])

    @each(NEWEST)
    def test_nlb_scenarios_fit_into_its_listeners(self, manifests: list[Manifest], _: str) -> None:
        for service in public_services(manifests):
            if service["spec"].get("loadBalancerClass") == "service.k8s.aws/nlb":
                self.assertLessEqual(len(service["spec"]["ports"]), 50)

    @each(NEWEST)
    def test_metrics_are_never_on_a_public_service(self, manifests: list[Manifest], _: str) -> None:
        for service in public_services(manifests):
            self.assertFalse({"admin", "metrics", 8080} & {port["targetPort"] for port in service["spec"]["ports"]})

    @each(NEWEST)
    def test_mounts_have_volumes_and_volumes_are_mounted(self, manifests: list[Manifest], _: str) -> None:
        spec = gateway_pod(manifests)["spec"]
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        self.assertEqual(mounted, {volume["name"] for volume in spec["volumes"]})

    @each(NEWEST)
    def test_the_token_is_there_if_and_only_if_there_is_something_to_read(self, manifests: list[Manifest], _: str) -> None:
        spec = gateway_pod(manifests)["spec"]
        roles = of_kind(manifests, "Role")
        self.assertEqual(spec["automountServiceAccountToken"], bool(roles))
        names = [service["metadata"]["name"] for service in public_services(manifests)]
        address = [{"apiGroups": [""], "resources": ["services"], "verbs": ["get", "watch"], "resourceNames": names}]
        slices = ["pods: get list watch", "endpointslices: list watch create delete", "endpointslices: update of 400", "endpointslices/restricted: create",
                  "services: get of 1", "endpoints: delete of 1"]  # fmt: skip
        self.assertIn([role["rules"] for role in roles[:1]], ([], [address]))
        self.assertEqual([[told(rule) for rule in role["rules"]] for role in roles[1:]], [slices] if is_shared(manifests) else [])
        for binding in of_kind(manifests, "RoleBinding"):
            self.assertEqual(binding["subjects"], [{"kind": "ServiceAccount", "name": spec["serviceAccountName"], "namespace": NAMESPACE}])

    @each(NEWEST)
    def test_each_address_is_read_from_a_service_that_exists(self, manifests: list[Manifest], _: str) -> None:
        names = {service["metadata"]["name"] for service in public_services(manifests)}
        for namespace, name in re.findall(r'^address = "service:(.+)/(.+)"$', toml_of(manifests), re.M):
            self.assertEqual(namespace, NAMESPACE)
            self.assertIn(name, names)
        for variable in gateway_pod(manifests)["spec"]["containers"][0].get("env", []):
            if variable["name"] == "BUCKETFERRY_PASSIVE__SHARE":
                self.assertLessEqual(workload(manifests)["spec"]["replicas"], int(variable["value"].removeprefix("$(POD_INDEX)/")))
            if variable["name"] == "BUCKETFERRY_PASSIVE__ADDRESS":
                own = {f"{workload(manifests)['metadata']['name']}-{pod}" for pod in range(workload(manifests)["spec"]["replicas"])}
                self.assertEqual(own, names)

    @each(*VERSIONS)
    def test_the_grace_of_pods_covers_that_of_the_gateway(self, manifests: list[Manifest], version: str) -> None:
        seconds = {"s": 1, "m": 60, "h": 3600}
        spec = gateway_pod(manifests)["spec"]
        grace = re.search(r'^grace = "(.+)"$', toml_of(manifests), re.M)[1]
        given = sum(int(number) * seconds[unit] for number, unit in re.findall(r"(\d+)([smh])", grace))
        hook = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if version.startswith("1.29") or workload(manifests)["kind"] == "StatefulSet":
            self.assertEqual(hook, 0)
        withdrawal = re.search(r'^withdrawal = "(\d+)s"$', toml_of(manifests), re.M)
        # The API server may need 5 s to take note.
        withdrawing = 5 + int(withdrawal[1]) if withdrawal else 0
        self.assertEqual(spec["terminationGracePeriodSeconds"], given + hook + withdrawing + 15)

    @each(NEWEST)
    def test_probes_ask_what_they_should(self, manifests: list[Manifest], _: str) -> None:
        container = gateway_pod(manifests)["spec"]["containers"][0]
        asked = {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        self.assertEqual({name: get["path"] for name, get in asked.items()},
                         {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"})  # fmt: skip
        self.assertEqual({get["port"] for get in asked.values()}, {"admin"})

    @each(NEWEST)
    def test_secrets_stay_out_of_config_maps(self, manifests: list[Manifest], _: str) -> None:
        for config in of_kind(manifests, "ConfigMap"):
            self.assertNotRegex(str(config.get("data")), r"password_hash|\$argon2|\$2y")

    def test_texts_stay_texts_whatever_they_look_like(self) -> None:
        result = helm("template", "on", str(CHART), "--namespace", "123", "--kube-version", NEWEST, "--values", "-", stdin=json.dumps(ODD))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.validate(result.stdout)

    def test_null_leaves_out_what_can_be_left_out(self) -> None:
        groups = yaml.safe_load((REPOSITORY / "helm" / "source" / "values.yaml").read_text())
        nothing = {name: without(value) for group in groups for name, value in group["values"].items() if without(value) != {}}
        nothing["config"] = {section: dict.fromkeys(settings) for section, settings in configuration.sections(CONFIGURATION.read_text()).items()}
        result = template(json.dumps(nothing), NEWEST, "--set", "skipApiChecks=true", "--set", "networkPolicy.enabled=true,podDisruptionBudget.enabled=true,podDisruptionBudget.maxUnavailable=1",
                          "--set", "persistence.enabled=true,metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.dashboard.enabled=true")  # fmt: skip
        self.assertEqual(result.returncode, 0, result.stderr)
        self.validate(result.stdout)

    def test_null_is_refused_where_something_must_be(self) -> None:
        for path in ("config", "service.type", "persistence", "tls.certManager", "image.repository", "passive.first", "scaling.mode", "metrics"):
            with self.subTest(path):
                result = template("", NEWEST, "--set", f"{path}=null")
                self.assertIn(f"missing property '{path.rpartition('.')[2]}'", result.stderr)

    def validate(self, text: str) -> None:
        """Every object is as its schema wants it."""
        for manifest in yaml.safe_load_all(text):
            if manifest and manifest["kind"] not in FOREIGN:
                kubernetes_validate.validate(manifest, NEWEST, strict=True)

    def test_pods_are_replaced_for_the_configuration_but_not_for_what_is_reloaded(self) -> None:
        base = {"users": {"list": [{"name": "a", "password_hash": "x"}]}, "tls": {"existingSecret": "one"}}
        first = checksum(base)
        self.assertEqual(first, checksum({**base, "users": {"list": [{"name": "b", "password_hash": "y"}]}}))
        self.assertEqual(first, checksum({**base, "tls": {"existingSecret": "one"}, "service": {"annotations": {"x": "y"}}}))
        self.assertNotEqual(first, checksum({**base, "config": {"log": {"level": "debug"}}}))


def told(rule: Manifest) -> str:
    """A rule of a Role on one line."""
    (resource,), names = rule["resources"], rule.get("resourceNames")
    return f"{resource}: {' '.join(rule['verbs'])}" + (f" of {len(names)}" if names else "")


def is_shared(manifests: list[Manifest]) -> bool:
    """Whether pods share a Service."""
    return "[cluster]" in toml_of(manifests)


# What YAML would take for a number, or for a yes or no.
ODD: dict[str, Any] = {
    "skipApiChecks": True, "fullnameOverride": "on", "nameOverride": "123", "priorityClassName": "123", "runtimeClassName": "on",
    "serviceAccount": {"name": "123"}, "store": {"credentialsSecret": "on"}, "tests": {"credentialsSecret": "1e3"},
    "persistence": {"enabled": True, "storageClassName": "123", "size": "10"}, "spill": {"enabled": True, "size": "1000"},
    "service": {"loadBalancerClass": "true", "loadBalancerIP": "2001:db8::"}, "image": {"tag": "1"},
    "users": {"existingSecret": "123", "key": "yes"}, "tls": {"existingSecret": "123", "clientCA": {"existingSecret": "1", "key": "no"}},
}  # fmt: skip


def without(value: Any) -> Any:
    """Null in place of everything below that may be null."""
    if values.nullable(value):
        return None
    below = {name: without(inner) for name, inner in value.get("properties", {}).items()} if "properties" in value else {}
    return {name: what for name, what in below.items() if what != {}}


def checksum(given: dict[str, Any]) -> str:
    """What makes pods anew when it changes."""
    result = template(json.dumps(given))
    manifests = [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]
    return gateway_pod(manifests)["metadata"]["annotations"]["checksum/config"]
