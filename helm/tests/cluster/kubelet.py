"""The stand-in for scheduler and kubelet of the only node, which runs pods as processes of this machine."""

import itertools
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from api import Api, ApiError, Key, Mirror, Object, eventually, key_of
from control_plane import NODE_NAME, ControlPlane
from network import NODE, NODE_V6, PodNetwork
from pods import AWAY, Pod
from volumes import Sources

MIRRORED = ["pods", "services", "endpointslices", "secrets", "configmaps", "persistentvolumeclaims"]
PORT = 10250
LABELS = {"kubernetes.io/hostname": NODE_NAME, "kubernetes.io/os": "linux", "topology.kubernetes.io/zone": "zone-a"}
# Pods get the addresses from here up.
FIRST_POD = 2


class Kubelet:
    """Runs all pods that there are."""

    def __init__(self, api: Api, control_plane: ControlPlane, folder: Path) -> None:
        self.api = api
        self.control_plane = control_plane
        self.folder = folder
        self.something_changed = threading.Event()
        self.mirrors = {resource: Mirror(api, resource, self.something_changed.set) for resource in MIRRORED}
        self.sources = Sources(api, self.mirrors)
        self.pods: dict[Key, Pod] = {}
        self.logs: dict[Key, Path] = {}
        # The UIDs of pods that must not run again, even if the mirror still has them.
        self.ended: set[str] = set()
        self.numbers = itertools.count(FIRST_POD)
        self.is_stopped = False
        self.thread = threading.Thread(target=self.manage, name="kubelet", daemon=True)
        self.server = ThreadingHTTPServer(("0.0.0.0", PORT), handler(self))

    def start(self) -> None:
        """Makes the Node object, and begins to run pods."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.control_plane.certificate, self.control_plane.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, name="logs", daemon=True).start()
        self.api.create("nodes", None, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME, "labels": LABELS}})
        self.api.patch("nodes", None, NODE_NAME, {"status": NODE_STATUS}, sub="status")
        # New nodes are tainted until a controller sees that they are ready.
        self.api.patch("nodes", None, NODE_NAME, {"spec": {"taints": None}})
        for mirror in self.mirrors.values():
            mirror.start()
        self.thread.start()

    def stop(self) -> None:
        """Ends all pods at once."""
        self.is_stopped = True
        for mirror in self.mirrors.values():
            mirror.stop()
        self.something_changed.set()
        if self.thread.is_alive():
            self.thread.join()
        for pod in self.pods.values():
            pod.stop()
        self.server.server_close()

    def manage(self) -> None:
        """Takes note of every change."""
        while not self.is_stopped:
            self.something_changed.wait()
            self.something_changed.clear()
            for item in self.mirrors["pods"].all():
                self.try_to_take(item)
            for pod in list(self.pods.values()):
                self.look_after(pod)

    def try_to_take(self, item: Object) -> None:
        """Takes a pod; whatever the API server has against it, the others go on, and it is tried again."""
        try:
            self.take(item)
        except ApiError as error:
            print(f"kubelet: {'/'.join(key_of(item))}: {error}", file=sys.stderr)
            self.look_again()

    def look_again(self) -> None:
        """Looks at everything in a second, even if nothing changes."""
        threading.Timer(1, self.something_changed.set).start()

    def take(self, item: Object) -> None:
        """Binds a new pod to the node, and runs one that is bound."""
        if "nodeName" not in item["spec"]:
            self.schedule(item)
            return
        known = self.pods.get(key_of(item))
        if known and known.uid == item["metadata"]["uid"]:
            known.object = item
        elif not known and item["metadata"]["uid"] not in self.ended:
            self.run(item)

    def schedule(self, item: Object) -> None:
        """There is but one node to choose."""
        namespace, name = key_of(item)
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME}}
        try:
            self.api.create("pods", namespace, binding, name, "binding")
        except ApiError as error:
            # Bound already, or gone, or its namespace is about to be.
            if error.code not in (403, 404, 409):
                raise
        except AWAY:
            self.look_again()

    def run(self, item: Object) -> None:
        """Runs a pod."""
        namespace, name = key_of(item)
        folder = self.folder / "pods" / namespace / f"{name}-{item['metadata']['uid'][:8]}"
        pod = Pod(self.api, item, PodNetwork(next(self.numbers)), folder, self.folder / "claims", self.sources)
        pod.set_hosts(self.hosts(namespace))
        self.pods[namespace, name] = pod
        self.logs[namespace, name] = folder
        pod.start()

    def look_after(self, pod: Pod) -> None:
        """Forgets a pod that is gone, ends one that was deleted without grace, and tells the others where Services are."""
        current = self.mirrors["pods"].get(pod.namespace, pod.name)
        if pod.is_gone.is_set():
            self.ended.add(pod.uid)
            self.pods.pop((pod.namespace, pod.name), None)
            # A pod of the same name may wait for its turn.
            self.something_changed.set()
        elif current is None or current["metadata"]["uid"] != pod.uid:
            pod.is_stopped = True
            pod.is_gone.wait(5)
            self.something_changed.set()
        else:
            pod.set_hosts(self.hosts(pod.namespace))

    def hosts(self, namespace: str) -> str:
        """The content of /etc/hosts in a namespace, which stands in for DNS."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        for service in self.mirrors["services"].all():
            if service["metadata"]["namespace"] == namespace:
                name = service["metadata"]["name"]
                names = " ".join([name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local"])
                lines += [f"{address} {names}" for address in self.addresses(service)]
        return "\n".join(lines) + "\n"

    def addresses(self, service: Object) -> list[str]:
        """The addresses that DNS would have for a Service."""
        if service["spec"].get("clusterIP") != "None":
            return service["spec"].get("clusterIPs", [])
        namespace, name = key_of(service)
        slices = [item for item in self.mirrors["endpointslices"].all() if item["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name]
        endpoints = [endpoint for item in slices if item["metadata"]["namespace"] == namespace for endpoint in item["endpoints"] or []]
        return [address for endpoint in endpoints if endpoint.get("conditions", {}).get("ready", True) for address in endpoint["addresses"]]

    # --- For tests ---

    def pod(self, namespace: str, name: str) -> Pod:
        """A pod that runs."""
        return self.pods[namespace, name]

    def kill(self, namespace: str, name: str) -> None:
        """SIGKILL to all processes of a pod."""
        for container in self.pod(namespace, name).all_containers():
            container.kill()

    def renew_tokens(self, namespace: str, name: str) -> None:
        """Gives a pod new tokens now."""
        self.pod(namespace, name).volumes.renew_tokens()

    def network_of(self, namespace: str, name: str) -> str:
        """The name of a pod's network namespace."""
        return self.pod(namespace, name).network.name

    def log(self, namespace: str, name: str, container: str | None = None) -> str:
        """All that the latest pod of this name has said, or one of its containers, through all restarts."""
        folder = self.logs[namespace, name]
        files = sorted(folder.glob(f"{container or '*'}.*.log"), key=lambda file: (file.stat().st_mtime_ns, file.name))
        return "".join(file.read_text(errors="replace") for file in files)

    def wait_until_gone(self, namespace: str, name: str, seconds: float = 30) -> None:
        """Waits until nothing is left of a pod."""
        eventually(f"the end of {namespace}/{name}", lambda: (namespace, name) not in self.pods, seconds)


NODE_STATUS = {
    "addresses": [{"type": "InternalIP", "address": NODE}, {"type": "InternalIP", "address": NODE_V6}, {"type": "Hostname", "address": NODE_NAME}],
    "capacity": {"cpu": "64", "memory": "256Gi", "pods": "1000"}, "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "1000"},
    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the tests run pods"}],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
}  # fmt: skip


def handler(kubelet: Kubelet) -> type[BaseHTTPRequestHandler]:
    """The part of a kubelet's API that `kubectl logs` needs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answers with the log of a container."""
            match self.path.split("?")[0].split("/"):
                case ["", "containerLogs", namespace, name, container] if (namespace, name) in kubelet.pods:
                    self.answer(200, kubelet.log(namespace, name, container))
                case _:
                    self.answer(404, "no such log\n")

        def answer(self, code: int, text: str) -> None:
            """Sends a text."""
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
