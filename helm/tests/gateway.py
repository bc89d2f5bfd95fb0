"""The real gateway, for tests that need its word."""

import json
import os
import re
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from ftplib import FTP, FTP_TLS, error_perm, error_temp
from pathlib import Path
from typing import Iterator

from support import Manifest, gateway_binary, gateway_pod, of_kind, toml_of

EXAMPLE_USERS = Path(__file__).resolve().parents[2] / "docs" / "users.example.toml"
PASSWORD = "for-a-test"


def check(manifests: list[Manifest], *more: str) -> subprocess.CompletedProcess[str]:
    """Asks `bucketferry check` about a rendered configuration, with all that is mounted in its place."""
    container = gateway_pod(manifests)["spec"]["containers"][0]
    with tempfile.TemporaryDirectory() as root:
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        for path in mounts:
            Path(root + path).mkdir(parents=True)
        known = re.compile(rf'("|file://)({"|".join(map(re.escape, mounts))})(?=[/"])')
        fill(Path(root), manifests)
        config = Path(root, "etc/bucketferry/config/bucketferry.toml")
        config.write_text(known.sub(rf"\1{root}\2", toml_of(manifests)))
        arguments = [gateway_binary(), "check", "--offline", "--config", str(config), *more]
        return subprocess.run(arguments, env=environment(container), text=True, capture_output=True, check=False)


def fill(root: Path, manifests: list[Manifest]) -> None:
    """Files as Secrets would mount them."""
    users = [secret["stringData"] for secret in of_kind(manifests, "Secret") if secret["metadata"]["name"].endswith("-users")]
    for folder in (root / "etc/bucketferry/users").parent.iterdir():
        match folder.name:
            case "users":
                (folder / "users.toml").write_text(next(iter(users[0].values())) if users else EXAMPLE_USERS.read_text())
            case "tls" | "client-ca":
                certificate(folder)
    if (store := root / "run/secrets/store").is_dir():
        (store / "id").write_text("AKIAEXAMPLE")
        (store / "key").write_text("secret")


def certificate(folder: Path, name: str = "localhost") -> None:
    """A pair for this name, and itself as the authority."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", f"/CN={name}",
         "-addext", f"subjectAltName=DNS:{name}", "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        capture_output=True, check=True,
    )  # fmt: skip
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())


def environment(container: Manifest) -> dict[str, str]:
    """The container's own variables, as the first pod of a StatefulSet would have them."""
    fields = {"metadata.name": "ferry-bucketferry-0", "metadata.labels['apps.kubernetes.io/pod-index']": "0"}
    variables = container.get("env", [])
    known = {variable["name"]: fields[variable["valueFrom"]["fieldRef"]["fieldPath"]] for variable in variables if "fieldRef" in variable.get("valueFrom", {})}
    literal = {variable["name"]: re.sub(r"\$\((\w+)\)", lambda name: known[name[1]], variable["value"]) for variable in variables if "value" in variable}
    return {"PATH": os.environ["PATH"], **known, **literal}


@contextmanager
def listening(toml: dict) -> Iterator[dict[str, int]]:
    """A gateway that listens as a rendered configuration says, but on ports that are free here: those."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate(folder)
        free = FreePorts()
        ftp = {key: [free.instead(address) for address in toml["ftp"].get(key, [])] for key in ("listen", "implicit_tls_listen")}
        admin = free.instead(toml["admin"]["listen"])
        (folder / "bucketferry.toml").write_text(LISTENING.format(folder=folder, admin=admin, **{key: json.dumps(value) for key, value in ftp.items()}))
        with running(folder) as log:
            for _ in eventually("the gateway to serve"):
                if '"serving"' in log.read_text():
                    break
            yield {**{key: free.of(value) for key, value in ftp.items() if value}, "admin": free.of([admin])}


LISTENING = """
[ftp]
listen = {listen}
implicit_tls_listen = {implicit_tls_listen}
[passive]
ports = 0
[admin]
listen = "{admin}"
[store]
url = "memory://"
[tls]
certificate = "{folder}/tls.crt"
private_key = "{folder}/tls.key"
"""


class FreePorts:
    """Another port for each port, always the same one."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def instead(self, address: str) -> str:
        """The address with a port that is free here."""
        host, _, port = address.rpartition(":")
        if port not in self.known:
            with socket.create_server(("", 0)) as listener:
                self.known[port] = listener.getsockname()[1]
        return f"{host}:{self.known[port]}"

    @staticmethod
    def of(addresses: list[str]) -> int:
        """The one port of these addresses."""
        (port,) = {int(address.rpartition(":")[2]) for address in addresses}
        return port


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """A gateway with the configuration in a folder, while it runs: its log."""
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen([gateway_binary(), "serve", "--config", folder / "bucketferry.toml"], stdout=out, stderr=out)
    try:
        yield log
    except AssertionError as failure:
        failure.add_note(log.read_text())
        raise
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def serving() -> Iterator[tuple[str, str]]:
    """A gateway with TLS and a users file on free ports, in which a little of everything has happened: its metrics, and what it printed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder)
        with running(folder) as log:
            ftp, admin = addresses(log)
            use(ftp, folder / "users.toml")
            yield metrics(admin), log.read_text()


def furnish(folder: Path, name: str = "localhost") -> None:
    """What a gateway with TLS for this name and a users file needs."""
    certificate(folder, name)
    hashed = subprocess.run([gateway_binary(), "hash-password"], input=PASSWORD + "\n", text=True, capture_output=True, check=True).stdout.strip()
    (folder / "users.toml").write_text(f'[[user]]\nname = "ferry"\npassword_hash = "{hashed}"\nexpect_every = "26h"\n')
    (folder / "bucketferry.toml").write_text(CONFIGURATION.format(folder=folder))


CONFIGURATION = """
[ftp]
listen = ["127.0.0.1:0"]
[passive]
ports = "31400-31439"
[admin]
listen = "127.0.0.1:0"
[store]
url = "memory://"
[tls]
certificate = "{folder}/tls.crt"
private_key = "{folder}/tls.key"
[users]
file = "{folder}/users.toml"
reload_interval = "50ms"
[active]
enabled = true
[cluster]
service = "ftp/ferry"
pod = "ferry-0"
[limits]
max_sessions_per_ip = 1
upload_rate = "1 KiB"
"""


def addresses(log: Path) -> tuple[tuple[str, int], str]:
    """Where it listens, from its log."""
    for _ in eventually("the gateway to serve"):
        for line in log.read_text().splitlines():
            if line.startswith("{") and (said := json.loads(line)).get("message") == "serving":
                host, port = re.findall(r"([\d.]+):(\d+)", str(said["listen"]))[0]
                return (host, int(port)), said["admin"]
    raise AssertionError


def use(address: tuple[str, int], users: Path) -> None:
    """A little of everything, so that each metric with labels has a series: some begin when they are first counted."""
    with socket.create_connection(address) as stranger:
        stranger.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
        while stranger.recv(1024):
            pass
    with login(FTP_TLS(context=ssl._create_unverified_context()), address) as ftp:
        ftp.prot_p()
        ftp.storbinary("STOR file", (users.parent / "tls.crt").open("rb"))
        ftp.retrbinary("RETR file", lambda _: None)
        refused(lambda: ftp.sendport("192.0.2.1", 2000))
        refused(lambda: FTP().connect(*address))
    users.write_text("broken")


def login(ftp: FTP, address: tuple[str, int]) -> FTP:
    """Logs in, once the one session that is allowed is free; the first password is wrong."""
    for _ in eventually("a place for a session"):
        try:
            ftp.connect(*address)
            break
        except error_temp:
            continue
    refused(lambda: ftp.login("ferry", "wrong"))
    ftp.login("ferry", PASSWORD)
    return ftp


def refused(attempt) -> None:
    """It must not succeed."""
    try:
        attempt()
    except (error_perm, error_temp):
        return
    raise AssertionError("the gateway should have refused this")


def metrics(admin: str) -> str:
    """What the gateway tells Prometheus, once it has noticed everything."""
    for _ in eventually("the metrics to show it all"):
        with urllib.request.urlopen(f"http://{admin}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        if 'users_reloads_total{outcome="failed"} 1' in text and 'bucketferry_store_up{store="default"} 1' in text:
            return text
    raise AssertionError


def eventually(what: str, seconds: float = 20) -> Iterator[None]:
    """Tries until the caller returns, or fails."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")
