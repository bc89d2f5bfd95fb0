"""Several pods behind one address: who gets which connection, and what becomes of clients when pods come and go."""

import json
import re
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator

import fixtures
from api import Object, eventually
from fixtures import NAME, RELEASE, gateway_pods, helm, install, is_ready, make_secrets
from network import NODE, NODE_V6
from support import CHART

TRAFFIC = str(Path(__file__).with_name("traffic.py"))
SESSIONS = 300
# Of 300 sessions and three pods, chance gives each 100 with a deviation of 8.
FAIR = range(65, 136)
EACH = 30
PORTS = range(30000, 30000 + 3 * EACH)
VALUES: dict[str, Any] = {
    "scaling": {"mode": "shared", "maxReplicas": 3}, "replicaCount": 3, "passive": {"first": PORTS[0], "last": PORTS[-1]},
    "service": {"externalTrafficPolicy": "Cluster", "ipFamilyPolicy": "RequireDualStack"},
    "persistence": {"enabled": True, "accessModes": ["ReadWriteMany"]},
    "users": {"existingSecret": "ferry-users"}, "tls": {"existingSecret": "ferry-tls"},
    "config": {
        "passive": {"trusted_networks": [NODE, NODE_V6]}, "tls": {"require_session_reuse": True}, "limits": {"max_sessions_per_ip": 500},
    },
    "startupProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1},
}  # fmt: skip


class Shared(unittest.TestCase):
    """One release of three pods; each test leaves them as they were."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(fixtures.CLUSTER.balancer())
        cls.namespace = cls.enterClassContext(fixtures.CLUSTER.namespace("shared"))
        make_secrets(cls.namespace)
        install(cls.namespace, values=VALUES)
        (service,) = fixtures.CLUSTER.api.list("services", cls.namespace, labelSelector="app.kubernetes.io/component=ftp")
        eventually("a balancer", lambda: cls.get("services", service["metadata"]["name"])["status"]["loadBalancer"].get("ingress"))
        cls.addresses = [each["ip"] for each in cls.get("services", NAME)["status"]["loadBalancer"]["ingress"]]
        cls.settled(3)

    @classmethod
    def get(cls, resource: str, name: str) -> Object:
        """An object that is there."""
        found = fixtures.CLUSTER.api.get(resource, cls.namespace, name)
        assert found, f"there is no {name}"
        return found

    @classmethod
    def settled(cls, pods: int) -> None:
        """Waits until so many pods are in the Service, and no others."""
        eventually(f"{pods} pods in the Service", lambda: cls.is_settled(pods), 120)
        eventually("kube-proxy", fixtures.CLUSTER.proxy_is_up_to_date)

    @classmethod
    def is_settled(cls, pods: int) -> bool:
        """Whether so many pods are ready, and the slices say that of them, and nothing of others."""
        there = gateway_pods(cls.namespace)
        if len(there) != pods or not all(map(is_ready, there)):
            return False
        expected = {(f"{pod['metadata']['name']}-{role}-{family}", pod["metadata"]["uid"], True, False)
                    for pod in there for role in ("control", "data") for family in ("ipv4", "ipv6")}  # fmt: skip
        return cls.slices() == expected

    def are_right_without(self, dead: str) -> bool:
        """Whether new clients are sent to the other two pods alone, and all ports of those are there."""
        names = {name for name, _, ready, _ in self.slices() if ready and "-ipv4" in name}
        others = {f"{NAME}-{index}" for index in range(3)} - {dead}
        return names - {f"{dead}-data-ipv4"} == {f"{other}-{role}-ipv4" for other in others for role in ("control", "data")}

    @classmethod
    def managers(cls) -> set[str]:
        """Who has written slices of the Service."""
        found = fixtures.CLUSTER.api.list("endpointslices", cls.namespace, labelSelector=f"kubernetes.io/service-name={NAME}")
        return {item["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] for item in found}

    @classmethod
    def slices(cls) -> set[tuple[str, str, bool, bool]]:
        """What the slices of the Service say: their names, of which pod, ready, terminating."""
        selector = f"kubernetes.io/service-name={NAME}"
        found = set()
        for item in fixtures.CLUSTER.api.list("endpointslices", cls.namespace, labelSelector=selector):
            for endpoint in item["endpoints"]:
                conditions = endpoint["conditions"]
                found.add((item["metadata"]["name"], endpoint["targetRef"]["uid"], conditions["ready"], conditions["terminating"]))
        return found

    def test_each_pod_has_ports_of_its_own_and_they_stay(self) -> None:
        slices = fixtures.CLUSTER.api.list("endpointslices", self.namespace, labelSelector=f"kubernetes.io/service-name={NAME}")
        by_name = {item["metadata"]["name"]: item for item in slices}
        for index in range(3):
            for family, kind in (("ipv4", "IPv4"), ("ipv6", "IPv6")):
                data, control = by_name[f"{NAME}-{index}-data-{family}"], by_name[f"{NAME}-{index}-control-{family}"]
                self.assertEqual([(port["name"], port["port"]) for port in data["ports"]], [(f"passive-{port}", port) for port in PORTS[index * EACH : (index + 1) * EACH]])
                self.assertEqual([(port["name"], port["port"]) for port in control["ports"]], [("ftp", 2121)])
                (endpoint,) = control["endpoints"]
                self.assertEqual((control["addressType"], endpoint["nodeName"]), (kind, "node-1"))
                self.assertEqual(endpoint["addresses"], [pod_address(self.get("pods", f"{NAME}-{index}"), kind)])
                self.assertEqual(control["metadata"]["ownerReferences"][0]["name"], f"{NAME}-{index}")

    def test_sessions_of_all_clients_spread_over_all_pods_and_each_transfer_is_right(self) -> None:
        before = self.counts("bucketferry_sessions_total")
        failures = self.finish(self.clients("sessions", self.addresses[0], str(SESSIONS)))
        self.assertEqual(failures, [])
        after = self.counts("bucketferry_sessions_total")
        shares = {pod: int(after[pod] - before[pod]) for pod in after}
        self.assertEqual(sum(shares.values()), SESSIONS)
        self.assertTrue(all(share in FAIR for share in shares.values()), shares)
        print(f"\n{SESSIONS} sessions: {shares}", end=" ")

    def test_ipv6_works_too(self) -> None:
        url = f"ftp://[{self.addresses[1]}]/by-ipv6"
        for number in range(12):
            user = ["--user", f"{fixtures.USER}:{fixtures.PASSWORD}", "--silent", "--show-error", "--max-time", "20"]
            with fixtures.CLUSTER.client("curl", *user, "--upload-file", "-", url, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as curl:
                told = curl.communicate(str(number))[1]
            self.assertEqual(curl.returncode, 0, told)
            self.assertEqual((self.folder() / "by-ipv6").read_text(), str(number))

    def test_a_rolling_update_loses_nothing(self) -> None:
        uids = {pod["metadata"]["uid"] for pod in gateway_pods(self.namespace)}
        with self.load() as told:
            fixtures.CLUSTER.kubectl("rollout", "restart", f"statefulset/{NAME}", "--namespace", self.namespace)
            fixtures.CLUSTER.kubectl("rollout", "status", f"statefulset/{NAME}", "--namespace", self.namespace, "--timeout=180s")
            self.settled(3)
        self.assertFalse(uids & {pod["metadata"]["uid"] for pod in gateway_pods(self.namespace)}, "a pod was not replaced")
        self.assert_nothing_lost(told)

    def test_scaling_down_and_up_loses_nothing(self) -> None:
        kept = self.get("pods", f"{NAME}-0")["metadata"]["uid"]
        with self.load() as told:
            self.scale(1)
            self.settled(1)
            self.scale(3)
            self.settled(3)
        self.assertEqual(self.get("pods", f"{NAME}-0")["metadata"]["uid"], kept, "the pod that stays was replaced")
        self.assert_nothing_lost(told)

    def test_a_pod_that_is_killed_is_left_out(self) -> None:
        with self.crash_loop(f"{NAME}-1"):
            eventually("unreadiness", lambda: not is_ready(self.get("pods", f"{NAME}-1")), 5)
            unready_at = time.time()
            time.sleep(5)
            with self.coming_and_going(30) as told:
                time.sleep(5)
        self.assertGreater(told["done"], 60)
        self.assertEqual([failure for failure in told["failures"] if failure[0] > unready_at + 5], [])
        self.settled(3)

    def test_uploads_to_a_pod_that_is_killed_are_not_there(self) -> None:
        address = pod_address(self.get("pods", f"{NAME}-2"), "IPv4")
        uploads = [self.half_an_upload(address, number) for number in range(10)]
        fixtures.CLUSTER.kubelet.kill(self.namespace, f"{NAME}-2")
        for upload in uploads:
            with suppress(BrokenPipeError):
                upload.communicate(timeout=30)
            self.assertNotEqual(upload.wait(30), 0)
        self.settled(3)
        self.assertEqual([file.name for file in self.folder().glob("half-*")], [])

    def test_an_api_server_that_is_away_takes_nothing_away(self) -> None:
        pods = gateway_pods(self.namespace)
        with self.coming_and_going(10) as told, ExitStack() as dying:
            with self.no_api_server():
                time.sleep(60)
                away = self.counts("bucketferry_endpointslices_current", pods=pods)
                killed = time.time()
                dying.enter_context(self.crash_loop(f"{NAME}-0"))
            back = time.monotonic()
            fixtures.CLUSTER.api.delete("endpointslices", self.namespace, f"{NAME}-1-data-ipv4")
            # What has changed meanwhile has to be in the slices soon after.
            eventually("slices that are right", lambda: self.are_right_without(f"{NAME}-0"), 10)
            took = time.monotonic() - back
        self.settled(3)
        # By itself it may wait for half a minute before it asks again.
        fixtures.CLUSTER.control_plane.restart_proxy()
        self.assertEqual(set(away.values()), {0.0})
        eventually("no more trouble", lambda: set(self.counts("bucketferry_endpointslices_current").values()) == {1.0}, 10)
        self.assertGreater(told["done"], 200)
        # Some of the last ones were with the pod that was killed.
        self.assertEqual([failure for failure in told["failures"] if failure[0] < killed - 2], [])
        print(f"\nslices were right {took:.1f} s after the API server was back", end=" ")

    def test_without_rights_all_goes_on_but_the_slices(self) -> None:
        before = self.counts("bucketferry_endpointslice_errors_total")
        with self.no_rights():
            fixtures.CLUSTER.api.delete("endpointslices", self.namespace, f"{NAME}-2-control-ipv6")
            eventually("complaints", lambda: set(self.counts("bucketferry_endpointslices_current").values()) == {0.0}, 45)
            self.assertTrue(all(errors > before.get(pod, 0) for pod, errors in self.counts("bucketferry_endpointslice_errors_total").items()))
            self.assertEqual(self.finish(self.clients("sessions", self.addresses[0], "9")), [])
        eventually("the slice", lambda: self.is_settled(3), 10)
        self.assertIn("the rights that are needed", fixtures.CLUSTER.kubelet.log(self.namespace, f"{NAME}-2"))

    def test_an_update_without_rights_waits_and_takes_no_other_pod_away(self) -> None:
        before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in gateway_pods(self.namespace)}
        with self.no_rights():
            fixtures.CLUSTER.kubectl("rollout", "restart", f"statefulset/{NAME}", "--namespace", self.namespace)
            eventually("the first new pod to wait", lambda: "EndpointSlices: not written yet" in self.readiness(f"{NAME}-2"), 60)
            # Longer than a pod has to be ready before the next one is replaced.
            time.sleep(6)
            self.assertEqual(self.get("pods", f"{NAME}-1")["metadata"]["uid"], before[f"{NAME}-1"], "the next pod was replaced")
            self.assertFalse(is_ready(self.get("pods", f"{NAME}-2")))
        fixtures.CLUSTER.kubectl("rollout", "status", f"statefulset/{NAME}", "--namespace", self.namespace, "--timeout=180s")
        self.settled(3)

    def test_slices_of_pods_that_never_were_are_removed(self) -> None:
        own = self.get("endpointslices", f"{NAME}-0-control-ipv4")
        stale = {**own, "metadata": {"name": "left-over-control-ipv4", "labels": own["metadata"]["labels"]}}
        stale["endpoints"] = [{**own["endpoints"][0], "targetRef": {"kind": "Pod", "namespace": self.namespace, "name": "gone", "uid": "gone"}}]
        fixtures.CLUSTER.api.create("endpointslices", self.namespace, stale)
        eventually("its end", lambda: fixtures.CLUSTER.api.get("endpointslices", self.namespace, "left-over-control-ipv4") is None, 5)
        self.settled(3)

    def test_a_service_that_loses_its_selector_or_gets_one_has_no_slices_of_before(self) -> None:
        address = self.get("services", NAME)["status"]["loadBalancer"]["ingress"]
        single = {**VALUES, "scaling": {"mode": "single"}, "replicaCount": 1, "service": {**VALUES["service"], "externalTrafficPolicy": "Local"}}
        helm("upgrade", RELEASE, str(CHART), "--namespace", self.namespace, "--wait", "--timeout", "120s", values=single)
        eventually("slices by Kubernetes alone", lambda: self.managers() == {"endpointslice-controller.k8s.io"})
        eventually("the end of the others", lambda: len(gateway_pods(self.namespace)) == 1)
        helm("upgrade", RELEASE, str(CHART), "--namespace", self.namespace, "--wait", "--timeout", "120s", values=VALUES)
        eventually("slices by gateways alone", lambda: self.managers() == {"bucketferry"})
        self.settled(3)
        self.assertEqual(self.get("services", NAME)["status"]["loadBalancer"]["ingress"], address)
        self.assertEqual(self.finish(self.clients("sessions", self.addresses[0], "9")), [])

    # --- What tests do ---

    def clients(self, *arguments: str) -> subprocess.Popen[str]:
        """Clients on their host."""
        return fixtures.CLUSTER.client(sys.executable, TRAFFIC, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def finish(self, clients: subprocess.Popen[str]) -> Any:
        """Lets clients come to an end: what they tell."""
        told, _ = clients.communicate(timeout=180)
        return json.loads(told)

    @contextmanager
    def load(self) -> Iterator[dict[str, Any]]:
        """Uploads and clients that come and go while inside; then what they met."""
        refused = self.counts("bucketferry_data_connections_refused_total")
        told: dict[str, Any] = {}
        clients = self.clients("load", self.addresses[0], str(self.folder()))
        try:
            eventually("60 uploads", lambda: sum(self.counts("bucketferry_transfers_in_flight", 'direction="upload"').values()) >= 55)
            yield told
            time.sleep(2)
        finally:
            told.update(self.finish(clients))
        # New pods count from 0.
        told["refused"] = sum(max(0, count - refused.get(pod, 0)) for pod, count in self.counts("bucketferry_data_connections_refused_total").items())

    def assert_nothing_lost(self, told: dict[str, Any]) -> None:
        """All went well."""
        self.assertEqual(told["uploads"]["failures"], [])
        self.assertEqual(told["clients"]["failures"], [])
        self.assertEqual(told["refused"], 0)
        self.assertGreater(told["uploads"]["done"], 120)
        self.assertGreater(told["clients"]["done"], 300)
        print(f"\n{told['uploads']['done']} uploads, {told['clients']['done']} sessions", end=" ")

    @contextmanager
    def coming_and_going(self, count: int) -> Iterator[dict[str, Any]]:
        """Clients that come and go while inside; then what they met."""
        told: dict[str, Any] = {}
        clients = self.clients("clients", self.addresses[0], str(count))
        try:
            yield told
        finally:
            told.update(self.finish(clients))

    @contextmanager
    def crash_loop(self, name: str) -> Iterator[None]:
        """While inside, a pod is killed whenever it runs."""
        is_over = threading.Event()

        def kill() -> None:
            while not is_over.wait(0.1):
                fixtures.CLUSTER.kubelet.kill(self.namespace, name)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            yield
        finally:
            is_over.set()
            killer.join()

    @contextmanager
    def no_api_server(self) -> Iterator[None]:
        """While inside, there is none."""
        fixtures.CLUSTER.control_plane.stop_api_server()
        try:
            yield
        finally:
            fixtures.CLUSTER.control_plane.start_api_server()

    @contextmanager
    def no_rights(self) -> Iterator[None]:
        """While inside, pods may not write slices."""
        role = f"{NAME}-slices"
        binding = self.get("rolebindings", role)
        fixtures.CLUSTER.api.delete("rolebindings", self.namespace, role)
        try:
            yield
        finally:
            metadata = {"name": role, "labels": binding["metadata"]["labels"], "annotations": binding["metadata"]["annotations"]}
            fixtures.CLUSTER.api.create("rolebindings", self.namespace, {**binding, "metadata": metadata})

    def readiness(self, name: str) -> str:
        """What a pod answers to the probe of its readiness; nothing, while it does not answer."""
        pod = fixtures.CLUSTER.api.get("pods", self.namespace, name)
        try:
            with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8080/readyz", timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.read().decode()
        except (OSError, KeyError, TypeError):
            return ""

    def half_an_upload(self, address: str, number: int) -> subprocess.Popen[str]:
        """An upload past the balancer that has sent something and not all."""
        user = f"{fixtures.USER}:{fixtures.PASSWORD}"
        url = f"ftp://{address}:2121/half-{number}"
        curl = fixtures.CLUSTER.client("curl", "--silent", "--user", user, "--upload-file", "-", url, stdin=subprocess.PIPE, text=True)
        assert curl.stdin
        curl.stdin.write("x" * 4_000_000)
        curl.stdin.flush()
        return curl

    def scale(self, replicas: int) -> None:
        """Another number of pods."""
        helm("upgrade", RELEASE, str(CHART), "--namespace", self.namespace, values={**VALUES, "replicaCount": replicas})

    def counts(self, metric: str, labels: str = "", pods: list[Object] | None = None) -> dict[str, float]:
        """A metric of each pod that answers."""
        found = {}
        for pod in pods or gateway_pods(self.namespace):
            try:
                with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8080/metrics", timeout=5) as answer:
                    text = answer.read().decode()
            except (OSError, KeyError):
                continue
            values = re.findall(rf"^{metric}(?:{{[^}}]*{re.escape(labels)}[^}}]*}})? (\S+)$", text, re.M)
            found[pod["metadata"]["uid"]] = sum(map(float, values))
        return found

    @classmethod
    def folder(cls) -> Path:
        """Where the pods store."""
        return fixtures.CLUSTER.folder / "claims" / cls.namespace / f"{NAME}-data"


def pod_address(pod: Object, family: str) -> str:
    """An address of a pod."""
    addresses = [each["ip"] for each in pod["status"]["podIPs"]]
    return next(address for address in addresses if (":" in address) == (family == "IPv6"))
