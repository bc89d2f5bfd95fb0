"""Every scenario from `helm install` to `helm uninstall`, in a namespace that enforces the Restricted standard."""

import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import fixtures
from api import Mirror, Object, eventually
from fixtures import GATEWAY_PORT, NAME, RELEASE, TLS_TYPE, gateway_pods, greeting, helm, here, is_ready, make_secret, make_secrets, scenario_name
from support import CHART, SCENARIOS

# More at once only wait for each other.
AT_ONCE = 3
# What the chart keeps on purpose.
KEPT = {name: {f"persistentvolumeclaim/{NAME}-data"} for name in ("minimal-hardened", "shared")}
CHANGED = "from another revision"


class Lifecycle(unittest.TestCase):
    """All scenarios, a few at a time."""

    def test_every_scenario_from_install_to_uninstall(self) -> None:
        cluster = fixtures.CLUSTER
        with cluster.balancer(), cert_manager(), ThreadPoolExecutor(AT_ONCE) as pool:
            lives = {scenario_name(scenario): pool.submit(live, scenario) for scenario in SCENARIOS}
        for name, life in lives.items():
            with self.subTest(scenario=name):
                life.result()


def live(scenario: Path) -> None:
    """The life of a release."""
    name = scenario_name(scenario)
    values = ["--values", str(scenario)]
    with fixtures.CLUSTER.namespace(f"life-{name}") as namespace:
        make_secrets(namespace)
        changed = here(scenario)
        is_valid(namespace, values, changed)
        upgrade(namespace, "install", values, changed)
        first = serving(namespace, "220 Bucketferry ready")
        again = {**changed, "config": {**changed.get("config", {}), "ftp": {"greeting": CHANGED}}}
        upgrade(namespace, "upgrade", values, again)
        second = serving(namespace, f"220 {CHANGED}")
        assert not first & second, "the changed configuration made no new pods"
        test(namespace)
        helm("rollback", RELEASE, "1", "--namespace", namespace, "--wait", "--timeout", "120s")
        third = serving(namespace, "220 Bucketferry ready")
        assert not second & third, "the rollback made no new pods"
        test(namespace)
        helm("uninstall", RELEASE, "--namespace", namespace, "--wait", "--timeout", "120s")
        eventually("nothing to be left", lambda: left(namespace) == KEPT.get(name, set()))


def is_valid(namespace: str, values: list[str], changed: dict[str, Any]) -> None:
    """The API server accepts every object, without an unknown field and without a warning."""
    manifests = helm("template", RELEASE, str(CHART), "--namespace", namespace, *values, values=changed)
    apply = ["kubectl", "apply", "--server-side", "--dry-run=server", "--validate=strict", "--namespace", namespace, "--filename", "-"]
    result = fixtures.CLUSTER.administer(*apply, stdin=manifests)
    assert result.returncode == 0 and not result.stderr, result.stderr


def upgrade(namespace: str, verb: str, values: list[str], changed: dict[str, Any]) -> None:
    """Installs or upgrades the release, and waits until all of it is ready."""
    helm(verb, RELEASE, str(CHART), "--namespace", namespace, "--wait", "--timeout", "120s", *values, values=changed)


def serving(namespace: str, expected: str) -> set[str]:
    """The UIDs of the pods, once all are ready and greet like this, older ones are gone, and Services lead to them."""

    def answer() -> list[Object]:
        pods = gateway_pods(namespace)
        services = fixtures.CLUSTER.api.list("services", namespace, labelSelector="app.kubernetes.io/component=ftp")
        if not pods or not all(map(is_ready, pods)):
            return []
        at = [(pod["status"]["podIP"], GATEWAY_PORT) for pod in pods]
        at += [(service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]) for service in services]
        return pods if all(greets(address, port, expected) for address, port in at) else []

    return {pod["metadata"]["uid"] for pod in eventually(f"pods that greet with {expected!r}", answer)}


def greets(address: str, port: int, expected: str) -> bool:
    """Whether this greeting comes from there."""
    try:
        return greeting(address, port) == expected
    except ConnectionError:
        return False


def test(namespace: str) -> None:
    """Runs the chart's own test."""
    told = helm("test", RELEASE, "--namespace", namespace, "--timeout", "120s")
    assert "Phase:          Succeeded" in told, told


def left(namespace: str) -> set[str]:
    """What there still is of the release."""
    kubectl = fixtures.CLUSTER.kubectl
    kinds = kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    # Events are a record of what was.
    kinds = [kind for kind in kinds if not kind.startswith("events")]
    of_release = kubectl("get", ",".join(kinds), "--namespace", namespace, "--selector", f"app.kubernetes.io/instance={RELEASE}", "--output=name")
    of_helm = kubectl("get", "secrets", "--namespace", namespace, "--selector", "owner=helm", "--output=name")
    return {*of_release.split(), *of_helm.split()}


@contextmanager
def cert_manager() -> Iterator[None]:
    """While inside, every Certificate gets its Secret, as by cert-manager."""
    fixtures.CLUSTER.need_foreign_kinds()
    lock = threading.Lock()

    def issue() -> None:
        with lock:
            for item in mirror.all():
                namespace, secret = item["metadata"]["namespace"], item["spec"]["secretName"]
                if fixtures.CLUSTER.api.get("secrets", namespace, secret) is None:
                    files = fixtures.certificate_files()
                    make_secret(namespace, secret, {name: files[name] for name in ("tls.crt", "tls.key")}, TLS_TYPE)

    mirror = Mirror(fixtures.CLUSTER.api, "certificates", issue)
    mirror.start()
    try:
        yield
    finally:
        mirror.stop()
