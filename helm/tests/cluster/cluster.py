"""A cluster of one node, for as long as a test needs it."""

import os
import re
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import network
from api import Api, Mirror, Object, eventually
from control_plane import ADMIN_TOKEN, API_SERVER, ControlPlane
from kubelet import Kubelet

# Their files, as the makers name them: group and plural.
FOREIGN_KINDS = [
    "monitoring.coreos.com_servicemonitors",
    "monitoring.coreos.com_podmonitors",
    "monitoring.coreos.com_prometheusrules",
    "cert-manager.io_certificates",
]


class Cluster:
    """The servers, the node, the clients' host, and programs that talk to them."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        # The addresses that balancers have given, by namespace and name.
        self.given: dict[tuple[str, str], int] = {}

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def start(self) -> None:
        """Starts everything; whatever has been started is stopped in the end."""
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-")))
        network.run("mount", "-t", "tmpfs", "tmpfs", str(self.folder))
        self.stack.callback(subprocess.run, ["umount", "--recursive", "--lazy", self.folder], check=False)
        # Pods have other users than this process.
        self.folder.chmod(0o755)
        network.set_up()
        self.control_plane = ControlPlane(self.folder)
        self.stack.callback(self.control_plane.stop)
        self.control_plane.start()
        self.api = Api(API_SERVER, self.control_plane.authority, ADMIN_TOKEN)
        self.kubelet = Kubelet(self.api, self.control_plane, self.folder)
        self.stack.callback(self.kubelet.stop)
        self.kubelet.start()
        self.control_plane.start_proxy()

    def need_foreign_kinds(self) -> None:
        """Adds the kinds of the Prometheus Operator and of cert-manager; the objects that the chart makes are checked against them."""
        folder = Path(os.environ["CLUSTER_CRDS"])
        for kind in FOREIGN_KINDS:
            self.kubectl("apply", "--server-side", "--filename", str(folder / f"{kind}.yaml"))
            group, plural = kind.split("_")
            eventually(f"the kind {plural}", lambda: self.serves_kind(f"{plural}.{group}"))

    def serves_kind(self, name: str) -> bool:
        """Whether the API server has taken note of a definition."""
        definition = self.api.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        conditions = definition.get("status", {}).get("conditions") or []
        return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)

    def environment(self) -> dict[str, str]:
        """The variables of programs that an administrator runs."""
        return {**os.environ, "KUBECONFIG": str(self.control_plane.kubeconfig), "HOME": str(self.folder), "HELM_MAX_HISTORY": "10"}

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints; it must succeed."""
        result = self.administer("kubectl", *arguments, stdin=stdin)
        if result.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {result.stderr}")
        return result.stdout

    def helm(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """How Helm ends."""
        return self.administer("helm", *arguments, stdin=stdin)

    def administer(self, *command: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a program as an administrator of the cluster."""
        return subprocess.run(command, input=stdin, text=True, capture_output=True, env=self.environment(), check=False)

    def client(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Starts a program on the clients' host."""
        return subprocess.Popen(network.inside(network.CLIENTS, *command), **options)

    @contextmanager
    def namespace(self, name: str, restricted: bool = True) -> Iterator[str]:
        """A namespace, which takes only restricted pods unless it is told otherwise. A failure inside is told with all that is in it."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
        self.api.create("namespaces", None, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        try:
            # Without this account, which a controller makes, pods are refused.
            eventually(f"the default account of {name}", lambda: self.api.get("serviceaccounts", name, "default"), 60)
            yield name
        except Exception as failure:
            failure.add_note(self.describe(name))
            raise
        finally:
            self.api.delete("namespaces", None, name)

    def describe(self, namespace: str) -> str:
        """What is in a namespace, and what its pods have said."""
        there = self.administer("kubectl", "get", "all,events", "--namespace", namespace, "--output", "wide")
        logs = [f"--- {name}\n{self.kubelet.log(space, name)}" for space, name in list(self.kubelet.logs) if space == namespace]
        return "\n".join([there.stdout, there.stderr, *logs])

    def balance(self, namespace: str, service: str, ipv4: str, ipv6: str | None = None) -> None:
        """Gives a Service the address of a balancer, as a cloud does."""
        ingress = [{"ip": address} for address in (ipv4, ipv6) if address]
        self.api.patch("services", namespace, service, {"status": {"loadBalancer": {"ingress": ingress}}}, sub="status")

    def proxy_is_up_to_date(self) -> bool:
        """Whether kube-proxy has applied all changes that it has heard of."""
        with urllib.request.urlopen("http://127.0.0.1:10249/metrics", timeout=5) as answer:
            pending = re.findall(r"^kubeproxy_sync_proxy_rules_(?:endpoint|service)_changes_pending (\S+)$", answer.read().decode(), re.M)
        return list(map(float, pending)) == [0, 0]

    @contextmanager
    def balancer(self) -> Iterator[None]:
        """While inside, every Service that asks for a balancer gets an address of its own, in each of its families."""
        balancer = Balancer(self)
        balancer.mirror.start()
        try:
            yield
        finally:
            balancer.mirror.stop()


class Balancer:
    """Gives addresses from 203.0.113.0/24 and 2001:db8:b::/64 to Services of the type LoadBalancer."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lock = threading.Lock()
        self.mirror = Mirror(cluster.api, "services", self.give)

    def give(self) -> None:
        """Gives an address to each Service that has none."""
        with self.lock:
            for service in self.mirror.all():
                if service["spec"]["type"] == "LoadBalancer" and not service["status"]["loadBalancer"].get("ingress"):
                    self.give_to(service)

    def give_to(self, service: Object) -> None:
        """The address of a Service stays free for it."""
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        given = self.cluster.given
        number = given.setdefault((namespace, name), 10 + len(given) % 240)
        addresses = {"IPv4": f"203.0.113.{number}", "IPv6": f"2001:db8:b::{number}"}
        ingress = [{"ip": addresses[family]} for family in service["spec"]["ipFamilies"]]
        self.cluster.api.patch("services", namespace, name, {"status": {"loadBalancer": {"ingress": ingress}}}, sub="status")
