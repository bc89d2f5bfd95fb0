"""etcd, the API server, the controllers and kube-proxy, each as a process on the node."""

import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from network import NODE, NODE_V6, PODS, PODS_V6, SERVICES, SERVICES_V6, run

PROGRAMS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl"]
NODE_NAME = "node-1"
ADMIN_TOKEN = "admin-of-the-tests"
API_SERVER = f"https://{NODE}:6443"
ETCD = "http://127.0.0.1:2379"
CONTROLLERS = [
    "deployment", "replicaset", "statefulset", "job", "disruption", "endpointslice", "garbage-collector", "namespace", "persistentvolumeclaim-protection",
    "root-ca-certificate-publisher", "serviceaccount",
]  # fmt: skip
NAMES = [
    f"IP:{NODE}",
    f"IP:{NODE_V6}",
    "IP:127.0.0.1",
    "IP:10.96.0.1",
    "IP:fd00:96::1",
    "DNS:kubernetes",
    "DNS:kubernetes.default",
    "DNS:kubernetes.default.svc",
]
STARTS_WITHIN = 60


class Server:
    """A program that runs until it is stopped, with its log in a file."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.log = folder / f"{name}.log"
        self.name = name
        self.command = [name, *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, is_ready: Callable[[], bool]) -> None:
        """Starts it, and waits until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + STARTS_WITHIN
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start:\n{self.tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it at once; its state is on disk, or of no use any more."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        self.process = None

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class ControlPlane:
    """All servers, with their state, keys and logs in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.authority = folder / "ca.crt"
        self.certificate = folder / "server.crt"
        self.key = folder / "server.key"
        self.etcd = Server(folder, "etcd", *self.etcd_flags())
        self.api_server = Server(folder, "kube-apiserver", *self.api_server_flags())
        self.controllers = Server(folder, "kube-controller-manager", *self.controller_flags())
        self.proxy = Server(folder, "kube-proxy", *self.proxy_flags())

    def start(self) -> None:
        """Starts the servers that need no Node object."""
        self.make_keys()
        self.etcd.start(lambda: answers(f"{ETCD}/readyz"))
        self.start_api_server()
        self.start_controllers()

    def start_controllers(self) -> None:
        """Starts the controllers."""
        self.controllers.start(lambda: True)

    def start_proxy(self) -> None:
        """Starts kube-proxy, which reads the node's addresses from its Node object."""
        self.proxy.start(lambda: answers("http://127.0.0.1:10256/livez"))

    def restart_proxy(self) -> None:
        """Has kube-proxy begin anew; what it has set up stays meanwhile."""
        self.proxy.stop()
        self.start_proxy()

    def stop(self) -> None:
        """Ends all servers, the ones that others need last."""
        for server in self.servers()[::-1]:
            server.stop()

    def servers(self) -> list[Server]:
        """All servers, in the order in which they start."""
        return [self.etcd, self.api_server, self.controllers, self.proxy]

    def start_api_server(self) -> None:
        """Starts the API server, with the state it had before."""
        self.api_server.start(lambda: answers(f"{API_SERVER}/readyz", self.authority))

    def stop_api_server(self) -> None:
        """Takes the API server away; the others go on."""
        self.api_server.stop()

    def restart_clients(self) -> None:
        """Starts controllers and kube-proxy anew: after an API server that was away, they may wait half a minute before they ask again."""
        for server in (self.controllers, self.proxy):
            server.stop()
        self.start_controllers()
        self.start_proxy()

    def make_keys(self) -> None:
        """Makes an authority, the certificate of API server and kubelet, the key of service accounts, and the administrator's files."""
        names = self.folder / "names"
        names.write_text(f"subjectAltName={','.join(NAMES)}\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        authority_key, request = self.folder / "ca.key", self.folder / "server.csr"
        run("openssl", "req", "-x509", *curve, "-days", "2", "-subj", "/CN=cluster-ca", "-keyout", str(authority_key), "-out", str(self.authority))
        run("openssl", "req", "-new", *curve, "-subj", "/CN=kube-apiserver", "-keyout", str(self.key), "-out", str(request))
        run("openssl", "x509", "-req", "-in", str(request), "-CA", str(self.authority), "-CAkey", str(authority_key), "-CAcreateserial", "-days", "2",
            "-extfile", str(names), "-out", str(self.certificate))  # fmt: skip
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(self.folder / "accounts.key"))
        (self.folder / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n')
        self.kubeconfig.write_text(KUBECONFIG.format(server=API_SERVER, authority=self.authority, token=ADMIN_TOKEN))

    def etcd_flags(self) -> list[str]:
        """A state that may be lost with the machine."""
        return [f"--data-dir={self.folder}/etcd", f"--listen-client-urls={ETCD}", f"--advertise-client-urls={ETCD}",
                "--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync", "--log-level=warn"]  # fmt: skip

    def api_server_flags(self) -> list[str]:
        """Flags of the API server, which listens on all addresses of the node."""
        return [
            f"--etcd-servers={ETCD}", "--bind-address=::", "--secure-port=6443", f"--advertise-address={NODE}",
            f"--tls-cert-file={self.certificate}", f"--tls-private-key-file={self.key}", f"--token-auth-file={self.folder}/tokens.csv", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-signing-key-file={self.folder}/accounts.key",
            f"--service-account-key-file={self.folder}/accounts.key", f"--service-cluster-ip-range={SERVICES},{SERVICES_V6}",
            "--kubelet-preferred-address-types=InternalIP", "--shutdown-delay-duration=0s",
        ]  # fmt: skip

    def controller_flags(self) -> list[str]:
        """Flags of the controllers."""
        return [
            f"--kubeconfig={self.kubeconfig}", f"--controllers={','.join(f'{name}-controller' for name in CONTROLLERS)}", "--use-service-account-credentials",
            f"--root-ca-file={self.authority}", f"--service-account-private-key-file={self.folder}/accounts.key", "--leader-elect=false", "--secure-port=0",
            "--kube-api-qps=200", "--kube-api-burst=400",
        ]  # fmt: skip

    def proxy_flags(self) -> list[str]:
        """Flags of kube-proxy."""
        return [
            f"--kubeconfig={self.kubeconfig}", "--proxy-mode=nftables", f"--hostname-override={NODE_NAME}", f"--cluster-cidr={PODS},{PODS_V6}",
            "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0", "--healthz-bind-address=127.0.0.1:10256",
        ]  # fmt: skip


def answers(url: str, authority: Path | None = None) -> bool:
    """Whether a GET is answered with 200."""
    context = ssl.create_default_context(cafile=str(authority)) if authority else None
    try:
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"} if authority else {})
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return answer.status == 200
    except (OSError, urllib.error.HTTPError):
        return False


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: tests
contexts: [{{name: tests, context: {{cluster: tests, user: admin}}}}]
clusters: [{{name: tests, cluster: {{server: "{server}", certificate-authority: "{authority}"}}}}]
users: [{{name: admin, user: {{token: "{token}"}}}}]
"""
