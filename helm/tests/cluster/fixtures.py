"""What the tests share: the cluster, the Secrets that scenarios name, values for a cluster without clouds, and FTP."""

import base64
import re
import socket
import subprocess
import tempfile
from ftplib import FTP
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from api import Object, eventually
from cluster import Cluster
from gateway import certificate
from support import CHART, gateway_binary

# Set by `run`.
CLUSTER: Cluster

RELEASE = "ferry"
NAME = "ferry-bucketferry"
USER, PASSWORD = "ferry", "for-a-test"
# On the pods.
GATEWAY_PORT = 2121
TLS_TYPE = "kubernetes.io/tls"


def scenario_name(path: Path) -> str:
    """The name of a scenario by its file."""
    return path.name.removesuffix("-values.yaml")


def here(scenario: Path) -> dict[str, Any]:
    """Values over those of a scenario, for a cluster without its cloud: another store, a user for `helm test`, short waits."""
    values = yaml.safe_load(scenario.read_text())
    changed: dict[str, Any] = {
        "preStopSeconds": 1, "startupProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1}, "tests": {"image": "curl"},
    }  # fmt: skip
    if "url" in values.get("config", {}).get("store", {}):
        changed["config"] = {"store": {"url": "memory://", "options": None}}
    if values.get("scaling", {}).get("mode") == "shared":
        # The memory of one pod is not that of another.
        changed["config"] = {"store": {"url": None, "options": None}}
        changed["persistence"] = {"enabled": True, "accessModes": ["ReadWriteMany"]}
    if values.get("minReadySeconds"):
        changed["minReadySeconds"] = 1
    if "existingSecret" in values.get("users", {}):
        changed["tests"]["credentialsSecret"] = "ferry-test-user"
    return changed


@cache
def users_toml() -> str:
    """A users file with one user."""
    hashed = subprocess.run([gateway_binary(), "hash-password"], input=PASSWORD + "\n", text=True, capture_output=True, check=True).stdout.strip()
    return f'[[user]]\nname = "{USER}"\npassword_hash = "{hashed}"\n'


@cache
def certificate_files() -> dict[str, str]:
    """A certificate, its key, and its authority."""
    with tempfile.TemporaryDirectory() as name:
        certificate(Path(name))
        return {file.name: file.read_text() for file in Path(name).iterdir()}


def make_secrets(namespace: str) -> None:
    """Makes every Secret that a scenario names."""
    files = certificate_files()
    pair = {name: files[name] for name in ("tls.crt", "tls.key")}
    make_secret(namespace, "ferry-users", {"users.toml": users_toml(), "ftp-users": users_toml()})
    make_secret(namespace, "ferry-test-user", {"username": USER, "password": PASSWORD})
    make_secret(namespace, "ferry-tls", pair, TLS_TYPE)
    make_secret(namespace, "ferry-client-ca", {"ca.crt": files["ca.crt"]})
    make_secret(namespace, "aws-credentials", {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"})
    make_secret(namespace, "minio-credentials", {"id": "AKIAEXAMPLE", "key": "secret"})
    make_secret(namespace, "registry", {".dockerconfigjson": "{}"}, "kubernetes.io/dockerconfigjson")


def make_secret(namespace: str, name: str, data: dict[str, str], kind: str = "Opaque") -> None:
    """Makes a Secret."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    CLUSTER.api.create("secrets", namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": encoded})


def helm(*arguments: str, values: dict[str, Any] | None = None) -> str:
    """What Helm prints; it must succeed."""
    given = ["--values", "-"] if values is not None else []
    result = CLUSTER.helm(*arguments, *given, stdin=yaml.safe_dump(values) if values is not None else None)
    if result.returncode != 0:
        raise AssertionError(f"helm {' '.join(arguments)}: {result.stderr}\n{result.stdout}")
    return result.stdout


def install(namespace: str, *arguments: str, values: dict[str, Any]) -> None:
    """Installs the chart, and waits until it is ready."""
    helm("install", RELEASE, str(CHART), "--namespace", namespace, "--wait", "--timeout", "120s", *arguments, values=values)


def gateway_pods(namespace: str) -> list[Object]:
    """The gateway's pods, those that end included."""
    return CLUSTER.api.list("pods", namespace, labelSelector=f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=bucketferry")


def is_ready(pod: Object) -> bool:
    """Whether a pod is ready, and not about to end."""
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in pod["status"].get("conditions", []))
    return ready and "deletionTimestamp" not in pod["metadata"]


def ready_pod(namespace: str) -> Object:
    """The only pod of the gateway, once it is ready."""
    (pod,) = eventually("one ready pod", lambda: (pods := gateway_pods(namespace)) and len(pods) == 1 and is_ready(pods[0]) and pods)
    return pod


def login(address: str) -> FTP:
    """A session with the gateway at this address."""
    ftp = FTP(timeout=10)
    ftp.connect(address, GATEWAY_PORT)
    ftp.login(USER, PASSWORD)
    return ftp


def greeting(address: str, port: int) -> str:
    """What a gateway says first."""
    with socket.create_connection((address, port), timeout=10) as connection:
        return connection.makefile().readline().strip()


def passive_address(ftp: FTP) -> str:
    """The address in the reply to PASV, or the code of a refusal."""
    reply = plain(ftp, "PASV")
    found = re.search(r"\((\d+),(\d+),(\d+),(\d+),", reply)
    return ".".join(found.groups()) if reply.startswith("227") and found else reply[:3]


def plain(ftp: FTP, command: str) -> str:
    """The reply to a command, whatever its code."""
    ftp.putcmd(command)
    return ftp.getmultiline()
