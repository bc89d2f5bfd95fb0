"""What the ServiceAccount of each scenario may do, and the objects of others' kinds."""

import json
import re
import unittest
from pathlib import Path
from typing import Any

import yaml

import fixtures
from fixtures import NAME, RELEASE, helm, here, scenario_name
from support import CHART, SCENARIOS, Manifest, gateway_pod, of_kind

# Resources, names and verbs, as `kubectl auth can-i --list` writes them.
Right = tuple[str, str, str]

ADDRESS: set[Right] = {("services", NAME, "get watch")}
SLICES: set[Right] = {
    ("pods", "", "get list watch"), ("endpointslices.discovery.k8s.io", "", "list watch create delete"), ("endpointslices.discovery.k8s.io/restricted", "", "create"),
    ("endpoints", NAME, "delete"),
    *(("endpointslices.discovery.k8s.io", f"{NAME}-{pod}-{role}-{family}", "update") for pod in range(100) for role in ("data", "control") for family in ("ipv4", "ipv6")),
}  # fmt: skip
RIGHTS: dict[str, set[Right]] = {
    "azure": ADDRESS,
    "default": ADDRESS,
    "existing-secrets": ADDRESS,
    "gke-workload-identity": ADDRESS,
    "k3s": ADDRESS,
    "metallb": ADDRESS,
    "minimal-hardened": set(),
    "monitoring": ADDRESS,
    "nlb-proxy-protocol": ADDRESS,
    "nodeport": set(),
    "per-pod": {("services", f"{NAME}-{pod}", "get watch") for pod in range(3)},
    "s3-irsa": ADDRESS,
    "shared": ADDRESS | SLICES,
    "tls-cert-manager": ADDRESS,
}
OF_RIGHTS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
MONITORS = {
    "metrics": {"podMonitor": {"enabled": True, "interval": "15s", "scrapeTimeout": "10s", "relabelings": [{"targetLabel": "team", "replacement": "a"}]}},
    "skipApiChecks": True,
}


class Rights(unittest.TestCase):
    """`kubectl auth can-i --list` as each ServiceAccount."""

    def test_each_account_may_do_what_the_table_says_and_nothing_else(self) -> None:
        for scenario in SCENARIOS:
            name = scenario_name(scenario)
            with self.subTest(scenario=name), fixtures.CLUSTER.namespace(f"rights-{name}") as namespace:
                self.assertIn(name, RIGHTS, "a scenario must say here what its account may do")
                manifests = rendered_in(namespace, scenario)
                fixtures.CLUSTER.kubectl("apply", "--server-side", "--filename", "-", stdin=yaml.safe_dump_all(of_kind(manifests, *OF_RIGHTS)))
                account = gateway_pod(manifests)["spec"]["serviceAccountName"]
                self.assertEqual(rights_of(namespace, account), RIGHTS[name])
                self.assertEqual(rights_of(namespace, account, "default"), set(), "in another namespace")

    def test_one_right_more_is_found(self) -> None:
        with fixtures.CLUSTER.namespace("rights-of-too-much") as namespace:
            fixtures.CLUSTER.kubectl("create", "role", "more", "--namespace", namespace, "--verb=list", "--resource=secrets")
            fixtures.CLUSTER.kubectl("create", "rolebinding", "more", "--namespace", namespace, "--role=more", f"--serviceaccount={namespace}:default")
            self.assertEqual(rights_of(namespace, "default"), {("secrets", "", "list")})


class ForeignKinds(unittest.TestCase):
    """The objects for the Prometheus Operator and cert-manager, by the kinds that these install."""

    @classmethod
    def setUpClass(cls) -> None:
        fixtures.CLUSTER.need_foreign_kinds()

    def test_objects_are_as_their_kinds_want_them(self) -> None:
        for kind, manifest in foreign_objects().items():
            with self.subTest(kind=kind):
                code, said = applied(manifest)
                self.assertEqual((code, said), (0, ""))

    def test_a_field_that_the_kind_does_not_know_is_refused(self) -> None:
        for kind, manifest in foreign_objects().items():
            with self.subTest(kind=kind):
                code, said = applied({**manifest, "spec": {**manifest["spec"], "mistyped": True}})
                self.assertEqual(code, 1)
                self.assertRegex(said, r"mistyped")

    def test_a_value_that_the_kind_does_not_allow_is_refused(self) -> None:
        monitor = foreign_objects()["PodMonitor"]
        endpoint = {**monitor["spec"]["podMetricsEndpoints"][0], "interval": "often"}
        code, said = applied({**monitor, "spec": {**monitor["spec"], "podMetricsEndpoints": [endpoint]}})
        self.assertEqual(code, 1)
        self.assertIn("interval", said)


def rendered_in(namespace: str, scenario: Path) -> list[Manifest]:
    """The objects of a scenario for a namespace."""
    text = helm("template", RELEASE, str(CHART), "--namespace", namespace, "--values", str(scenario), values=here(scenario))
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def rights_of(namespace: str, account: str, where: str | None = None) -> set[Right]:
    """What an account may do and not every account may, in its namespace or elsewhere."""
    everybody = listed(namespace, "system:serviceaccount:nowhere:nobody", where or namespace)
    return listed(namespace, f"system:serviceaccount:{namespace}:{account}", where or namespace) - everybody


def listed(namespace: str, user: str, where: str) -> set[Right]:
    """The table of `kubectl auth can-i --list`, a line for each name; what is no resource is written as one."""
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    impersonated = [f"--as={user}", *(f"--as-group={group}" for group in groups)]
    table = fixtures.CLUSTER.kubectl("auth", "can-i", "--list", "--no-headers", "--namespace", where, *impersonated)
    rights: set[Right] = set()
    for line in table.splitlines():
        resource, paths, names, verbs = re.fullmatch(r"(\S*)\s+\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]", line).groups()
        rights |= {(resource or paths, name, verbs) for name in names.split() or [""]}
    return rights


def foreign_objects() -> dict[str, Manifest]:
    """One object of each kind, by the scenarios that have one."""
    scenarios = {scenario_name(scenario): scenario for scenario in SCENARIOS}
    monitors = yaml.safe_load_all(helm("template", RELEASE, str(CHART), "--namespace", "default", values=MONITORS))
    manifests = [*rendered_in("default", scenarios["monitoring"]), *rendered_in("default", scenarios["tls-cert-manager"]), *filter(None, monitors)]
    kinds = ["ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate"]
    return {kind: of_kind(manifests, kind)[0] for kind in kinds}


def applied(manifest: dict[str, Any]) -> tuple[int, str]:
    """How a strict dry run on the server ends, and what it complains of."""
    command = ["kubectl", "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-"]
    result = fixtures.CLUSTER.administer(*command, stdin=json.dumps(manifest))
    return result.returncode, result.stderr
