"""The node itself: what the other tests take for granted."""

import re
import subprocess
import time
import unittest
from typing import Any

import fixtures
from api import ApiError, Object, eventually
from fixtures import NAME, PASSWORD, USER, install, is_ready, make_secret, make_secrets, ready_pod
from network import CLIENT, CLIENT_V6

VIP, VIP_V6 = "203.0.113.250", "2001:db8:b::250"
DUAL_STACK: dict[str, Any] = {
    "users": {"existingSecret": "ferry-users"}, "service": {"ipFamilyPolicy": "RequireDualStack"},
    "startupProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1},
}  # fmt: skip
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}


class Node(unittest.TestCase):
    """Networks, processes and files of pods."""

    def test_clients_reach_a_gateway_by_its_balancer_and_keep_their_addresses(self) -> None:
        with fixtures.CLUSTER.namespace("balanced") as namespace:
            make_secrets(namespace)
            install(namespace, values=DUAL_STACK)
            fixtures.CLUSTER.balance(namespace, NAME, VIP, VIP_V6)
            pod = ready_pod(namespace)
            for vip, client in ((VIP, CLIENT), (f"[{VIP_V6}]", f"[{CLIENT_V6}]")):
                with self.subTest(vip):
                    eventually(f"a listing by {vip}", lambda vip=vip: curl(f"ftp://{vip}/") == 0, 10)
                    peers = re.findall(r'"peer":"(\S+):\d+"', fixtures.CLUSTER.kubelet.log(namespace, pod["metadata"]["name"]))
                    self.assertEqual(peers[-1], client)

    def test_a_killed_container_is_unready_at_once_and_restarted(self) -> None:
        with fixtures.CLUSTER.namespace("killed") as namespace:
            make_secrets(namespace)
            install(namespace, values=DUAL_STACK)
            name = ready_pod(namespace)["metadata"]["name"]
            fixtures.CLUSTER.kubelet.kill(namespace, name)
            eventually("unreadiness", lambda: not is_ready(the_pod(namespace, name)), 1)
            eventually("readiness", lambda: is_ready(the_pod(namespace, name)), 10)
            (status,) = the_pod(namespace, name)["status"]["containerStatuses"]
            self.assertEqual((status["restartCount"], status["lastState"]["terminated"]["exitCode"]), (1, 137))
            self.assertIn("serving", fixtures.CLUSTER.kubectl("logs", f"deployment/{NAME}", "--namespace", namespace))

    def test_a_changed_secret_arrives_in_a_running_pod(self) -> None:
        with fixtures.CLUSTER.namespace("secrets") as namespace:
            volume = {"name": "secret", "secret": {"secretName": "later"}}
            run(
                namespace,
                "while :; do cat /secret/key; echo; sleep 0.2; done",
                volumes=[volume],
                mounts=[{"name": "secret", "mountPath": "/secret", "readOnly": True}],
            )
            time.sleep(1)
            self.assertEqual(the_pod(namespace)["status"]["phase"], "Pending", "it should wait for the Secret")
            make_secret(namespace, "later", {"key": "first"})
            eventually("the Secret", lambda: "first" in log(namespace), 5)
            fixtures.CLUSTER.api.patch("secrets", namespace, "later", {"stringData": {"key": "second"}})
            eventually("the new Secret", lambda: "second" in log(namespace), 2)

    def test_a_pod_has_the_user_the_rights_and_the_root_of_its_security_context(self) -> None:
        with fixtures.CLUSTER.namespace("rights-of-a-process") as namespace:
            run(namespace, 'id; grep -E "NoNewPrivs|CapBnd|CapEff" /proc/self/status; touch /new; echo "$KUBERNETES_SERVICE_HOST"')
            eventually("the end", lambda: the_pod(namespace)["status"]["phase"] == "Succeeded", 10)
            said = log(namespace)
            self.assertRegex(said, r"uid=65532 gid=65532 groups=65532\n")
            self.assertEqual(re.findall(r"NoNewPrivs:\s+(\S+)", said), ["1"])
            self.assertEqual(re.findall(r"Cap\S+\s+(\S+)", said), ["0" * 16] * 2)
            self.assertIn("Read-only file system", said)
            self.assertIn("10.96.0.1", said)

    def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(self) -> None:
        with fixtures.CLUSTER.namespace("stubborn") as namespace:
            run(namespace, "trap 'echo heard' TERM; echo begun; while :; do sleep 0.1; done", grace=2, sleeps=1)
            eventually("the process", lambda: "begun" in log(namespace), 10)
            begun = time.monotonic()
            fixtures.CLUSTER.kubectl("delete", "pod", "pod", "--namespace", namespace)
            took = time.monotonic() - begun
            self.assertTrue(2 <= took < 4, f"it took {took} s")
            self.assertEqual(log(namespace), "begun\nheard\n")

    def test_a_pod_with_too_many_rights_is_refused(self) -> None:
        with fixtures.CLUSTER.namespace("refused") as namespace:
            with self.assertRaisesRegex(ApiError, "violates PodSecurity"):
                run(namespace, "true", context={})


def curl(url: str) -> int:
    """How curl ends on the clients' host."""
    client = fixtures.CLUSTER.client("curl", "--silent", "--max-time", "5", "--user", f"{USER}:{PASSWORD}", url, stdout=subprocess.DEVNULL)
    return client.wait()


def run(namespace: str, script: str, volumes: list[Object] | None = None, mounts: list[Object] | None = None, grace: int = 1, sleeps: int = 0,
        context: Object | None = None) -> None:  # fmt: skip
    """Runs a script in a pod."""
    of_container = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container: Object = {"name": "main", "image": "sh", "command": ["sh", "-c", script], "volumeMounts": mounts or [], "securityContext": of_container}
    if sleeps:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": sleeps}}}
    spec = {"containers": [container], "volumes": volumes or [], "restartPolicy": "Never", "terminationGracePeriodSeconds": grace,
            "securityContext": RESTRICTED if context is None else context}  # fmt: skip
    fixtures.CLUSTER.api.create("pods", namespace, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec})


def the_pod(namespace: str, name: str = "pod") -> Object:
    """A pod as the API has it."""
    found = fixtures.CLUSTER.api.get("pods", namespace, name)
    assert found, f"there is no pod {name}"
    return found


def log(namespace: str) -> str:
    """What the pod has said."""
    return fixtures.CLUSTER.kubelet.log(namespace, "pod") if (namespace, "pod") in fixtures.CLUSTER.kubelet.logs else ""
