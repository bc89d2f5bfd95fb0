"""From `helm install` to the first 226, by what Helm prints alone."""

import re
import subprocess
import unittest
from typing import Any

import fixtures
from api import eventually
from fixtures import NAME, PASSWORD, RELEASE, USER, helm, make_secrets
from network import CLIENTS, inside
from support import CHART

QUICK: dict[str, Any] = {"startupProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1}}
# Seconds for all commands of one installation.
PATIENCE = 60
TYPING = 2
# What an operator changes, and what it comes to.
INSTALLATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "tls": {"users": {"existingSecret": "ferry-users"}, "tls": {"existingSecret": "ferry-tls"}},
    "cluster-ip": {"users": {"existingSecret": "ferry-users"}, "service": {"type": "ClusterIP"}},
    "shared": {
        "users": {"existingSecret": "ferry-users"}, "scaling": {"mode": "shared", "balancerKeepsAddresses": True}, "replicaCount": 2,
        "service": {"externalTrafficPolicy": "Cluster"}, "persistence": {"enabled": True, "accessModes": ["ReadWriteMany"]},
    },
}  # fmt: skip


class Notes(unittest.TestCase):
    """The commands in the notes, one after the other, in a shell on the clients' host."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(fixtures.CLUSTER.balancer())

    def test_who_follows_the_notes_uploads_a_file(self) -> None:
        for name, values in INSTALLATIONS.items():
            with self.subTest(name), fixtures.CLUSTER.namespace(f"notes-{name}") as namespace:
                make_secrets(namespace)
                notes = helm("install", RELEASE, str(CHART), "--namespace", namespace, values={**QUICK, **values})
                result = follow(notes, namespace)
                self.assertEqual(result.returncode, 0, f"{notes}\n{result.stdout}\n{result.stderr}")
                self.assertIn("\n< 226 ", result.stderr)

    def test_what_must_be_filled_in_is_in_capitals(self) -> None:
        with fixtures.CLUSTER.namespace("notes-capitals") as namespace:
            make_secrets(namespace)
            notes = helm("install", RELEASE, str(CHART), "--namespace", namespace, values=INSTALLATIONS["tls"])
            self.assertEqual(set(re.findall(r"\b[A-Z]{4,}\b", "\n".join(commands(notes)))) - {"HOST"}, {"NAME", "PASSWORD", "FILE"})


def follow(notes: str, namespace: str) -> subprocess.CompletedProcess[str]:
    """Does what the notes say, with a user's name and a file filled in."""
    file = fixtures.CLUSTER.folder / "a-file"
    file.write_text("the first file\n")
    filled = "\n".join(commands(notes)).replace("NAME:PASSWORD", f"{USER}:{PASSWORD}").replace(" FILE ", f" {file} ")
    # To type as slowly as somebody does (kube-proxy needs a second), to see the replies, and because names of Services are known in pods only.
    script = filled.replace("curl ", f"sleep {TYPING}; curl --verbose --max-time 30 ").replace(f"{NAME}.{namespace}.svc", cluster_ip(namespace))
    # Some of the commands wait for minutes, or for ever.
    command = inside(CLIENTS, "timeout", str(PATIENCE), "bash", "-euo", "pipefail", "-c", script)
    return subprocess.run(command, env=fixtures.CLUSTER.environment(), text=True, capture_output=True, check=False)


def commands(notes: str) -> list[str]:
    """The commands that upload the first file: what is indented."""
    steps = notes.split("Upload the first file:\n")[1].split("\nHealth and metrics:")[0]
    return [line.removeprefix("  ") for line in steps.splitlines() if line.startswith("  ")]


def cluster_ip(namespace: str) -> str:
    """The address of the public Service within the cluster."""
    (address,) = eventually("the Service", lambda: fixtures.CLUSTER.api.get("services", namespace, NAME))["spec"]["clusterIPs"][:1]
    return address
