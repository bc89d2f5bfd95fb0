"""Rolling updates where each address has one pod: uploads that run, sessions that wait, and clients that come meanwhile."""

import json
import re
import subprocess
import sys
import time
import unittest
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from ftplib import FTP
from pathlib import Path
from typing import Any

import fixtures
from api import Object, eventually
from fixtures import NAME, RELEASE, gateway_pods, helm, install, is_ready, login, make_secrets
from support import CHART

TRAFFIC = str(Path(__file__).with_name("traffic.py"))
UPLOADS = 20
# How long uploads go on after the SIGTERM.
GO_ON = 2
# The traffic's own: so long a client tries again, before it was greeted by nobody.
RETRIES = 1.0
OLD, NEW = "the old revision", "the new revision"
VALUES: dict[str, Any] = {
    "persistence": {"enabled": True, "accessModes": ["ReadWriteMany"]}, "users": {"existingSecret": "ferry-users"}, "preStopSeconds": 2,
    "startupProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1},
}  # fmt: skip
# A new pod is ready before kube-proxy knows of it; without a pause, the next one would end meanwhile.
PER_POD: dict[str, Any] = {"scaling": {"mode": "perPod"}, "replicaCount": 2, "minReadySeconds": 2}

# For each address: when clients came, and how they were greeted.
Greetings = dict[str, list[tuple[float, str]]]


class Rolling(unittest.TestCase):
    """The guarantee of docs/kubernetes.md, for the modes `single` and `perPod`."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(fixtures.CLUSTER.balancer())

    def test_one_pod_beside_its_successor(self) -> None:
        with release("rolling-single", {"scaling": {"mode": "single"}}) as ferry:
            (address,), (old,) = ferry.addresses, ferry.pods()
            with ferry.greetings() as met, ferry.uploads(address, UPLOADS) as uploads:
                waiting = session(old)
                eventually("all uploads", lambda: running(old) == UPLOADS)
                ferry.upgrade(NEW)
                ended = self.assert_is_told_to_end(waiting)
                self.assert_drains(ferry, old, UPLOADS, uploads)
            self.assertEqual({greeting for _, greeting in met[address]}, {f"220 {OLD}", f"220 {NEW}"})
            self.assertEqual({greeting for begun, greeting in met[address] if begun > ended}, {f"220 {NEW}"})

    def test_one_pod_after_the_other(self) -> None:
        with release("rolling-per-pod", PER_POD) as ferry:
            (first, second), pods, each = ferry.addresses, ferry.pods(), UPLOADS // 2
            with ferry.greetings() as met, ferry.uploads(first, each) as to_first, ferry.uploads(second, each) as to_second:
                waiting = list(map(session, pods))
                eventually("all uploads", lambda: list(map(running, pods)) == [each, each])
                ferry.upgrade(NEW)
                # The last pod of a StatefulSet is replaced first.
                for number, uploads in ((1, to_second), (0, to_first)):
                    self.assert_is_told_to_end(waiting[number])
                    self.assertTrue(is_ready(ferry.pods()[1 - number]), "both pods end at once")
                    self.assert_drains(ferry, pods[number], each, uploads)
                eventually("the new revision at both addresses", lambda: ferry.is_greeting(NEW))
            silent = {address: [begun for begun, greeting in met[address] if not greeting] for address in ferry.addresses}
            self.assertTrue(all(silent.values()), "an address always answered, so the update was not seen")
            at_once = [(begun, other) for begun in silent[first] for other in silent[second] if abs(begun - other) < RETRIES]
            self.assertEqual(at_once, [], "neither address answered")

    def assert_is_told_to_end(self, waiting: FTP) -> float:
        """A session that waits for a command hears 421; when it did."""
        self.assertEqual(waiting.getmultiline()[:3], "421")
        return time.time()

    def assert_drains(self, ferry: "Release", pod: Object, count: int, uploads: subprocess.Popen[str]) -> None:
        """A pod that had its SIGTERM stays until its uploads end, which all do with 226, and whole."""
        time.sleep(GO_ON)
        uid = pod["metadata"]["uid"]
        self.assertIn(uid, ferry.uids(), "the pod did not wait for its uploads")
        self.assertEqual(running(pod), count, "uploads were cut")
        self.assertEqual(finish(uploads), ["226"] * count)
        eventually("the pod's end", lambda: uid not in ferry.uids(), 10)


class Release:
    """A release on a volume that all its pods share."""

    def __init__(self, namespace: str, values: dict[str, Any]) -> None:
        self.namespace = namespace
        self.values = {**VALUES, **values}
        make_secrets(namespace)
        install(namespace, values=self.revision(OLD))
        self.addresses = eventually("balancers", self.balanced)
        eventually("a greeting at each address", lambda: self.is_greeting(OLD))

    def revision(self, greeting: str) -> dict[str, Any]:
        """The values of a revision that greets like this."""
        return {**self.values, "config": {"ftp": {"greeting": greeting}}}

    def upgrade(self, greeting: str) -> None:
        """Begins an update to a revision that greets like this."""
        helm("upgrade", RELEASE, str(CHART), "--namespace", self.namespace, values=self.revision(greeting))

    def balanced(self) -> list[str]:
        """The addresses of its Services in the order of their names, once all have one."""
        services = fixtures.CLUSTER.api.list("services", self.namespace, labelSelector="app.kubernetes.io/component=ftp")
        given = [service["status"]["loadBalancer"].get("ingress") for service in sorted(services, key=name_of)]
        return [ingress[0]["ip"] for ingress in given] if all(given) else []

    def pods(self) -> list[Object]:
        """Its pods in the order of their names, those that end included."""
        return sorted(gateway_pods(self.namespace), key=name_of)

    def uids(self) -> set[str]:
        """The UIDs of its pods, those that end included."""
        return {pod["metadata"]["uid"] for pod in self.pods()}

    def is_greeting(self, expected: str) -> bool:
        """Whether clients are greeted like this at each address."""
        with self.greetings() as met:
            pass
        return {greeting for told in met.values() for _, greeting in told} == {f"220 {expected}"}

    @contextmanager
    def greetings(self) -> Iterator[Greetings]:
        """Clients that come to each address while inside; then how they were greeted."""
        met: Greetings = {}
        with traffic("greetings", *self.addresses) as clients:
            yield met
            met.update(finish(clients))

    def uploads(self, address: str, count: int) -> subprocess.Popen[str]:
        """So many uploads, which go on until they are finished."""
        return traffic("uploads", address, str(count), str(fixtures.CLUSTER.folder / "claims" / self.namespace / f"{NAME}-data"))


@contextmanager
def release(namespace: str, values: dict[str, Any]) -> Iterator[Release]:
    """A release in a namespace of its own."""
    with fixtures.CLUSTER.namespace(namespace):
        yield Release(namespace, values)
        # Its Services go at once: the balancers of other tests give their addresses again.
        helm("uninstall", RELEASE, "--namespace", namespace)


def traffic(*arguments: str) -> subprocess.Popen[str]:
    """Clients on their host; at the end of a `with` block their input ends, and they are waited for."""
    return fixtures.CLUSTER.client(sys.executable, TRAFFIC, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def finish(clients: subprocess.Popen[str]) -> Any:
    """Lets clients come to an end: what they tell."""
    told, _ = clients.communicate(timeout=60)
    return json.loads(told)


def session(pod: Object) -> FTP:
    """A session with a pod that has nothing to do, and waits long enough for a reply."""
    waiting = login(pod["status"]["podIP"])
    assert waiting.sock
    waiting.sock.settimeout(60)
    return waiting


def running(pod: Object) -> int:
    """How many uploads run on a pod."""
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8080/metrics", timeout=5) as answer:
        counts = re.findall(r'^bucketferry_transfers_in_flight{direction="upload"} (\d+)$', answer.read().decode(), re.M)
    # There is none before the first upload.
    return sum(map(int, counts))


def name_of(item: Object) -> str:
    """The name of an object."""
    return item["metadata"]["name"]
