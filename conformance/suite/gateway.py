"""The gateway under test: started on free ports, waited for, ended by SIGTERM."""

import os
import random
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from suite.clients.base import Login, Tls

HOST = "127.0.0.1"
USER = "ferry"
READY_WITHIN = 60.0
ENDS_WITHIN = 60.0
PASSIVE_PORTS = 64
REPOSITORY = Path(__file__).resolve().parents[2]


def binary() -> Path:
    """The program that is tried."""
    built = REPOSITORY / "target" / "release" / "bucketferry"
    return Path(os.environ.get("BUCKETFERRY_BIN", built)).resolve()


class GatewayError(Exception):
    """The gateway did not start, or did not end as it should."""


class Gateway:
    """One `bucketferry serve`: what the quick-start flags can say, and `settings` for the rest.

    With an `authority`, which those settings use, it speaks TLS as well.
    """

    def __init__(self, binary: Path, store_url: str, settings: dict[str, str], log: Path,
                 authority: Path | None = None) -> None:
        self.binary = binary
        self.store_url = store_url
        self.settings = settings
        self.log = log
        tls = Tls(authority, free_port()) if authority else None
        self.login = Login(HOST, free_port(), USER, secrets.token_hex(12), tls)
        self.admin_port = free_port()
        self.first_passive_port = free_range(PASSIVE_PORTS)

    def start(self) -> None:
        if not self.binary.is_file():
            raise GatewayError(f"no such program: {self.binary} (run: make build)")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.arguments(), env=self.environment(), cwd=self.log.parent,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            self.wait_until_ready()
        except GatewayError:
            self.process.kill()
            self.process.wait()
            raise

    def arguments(self) -> list[str]:
        first = self.first_passive_port
        return [
            str(self.binary), "serve",
            "--listen", f"{HOST}:{self.login.port}",
            "--admin-listen", f"{HOST}:{self.admin_port}",
            "--passive-ports", f"{first}-{first + PASSIVE_PORTS - 1}",
            "--store", self.store_url,
            "--user", f"{self.login.user}:{self.login.password}",
        ]

    def environment(self) -> dict[str, str]:
        """Ours, without what would configure the gateway behind the suite's back."""
        foreign = ("BUCKETFERRY_", "AWS_", "AZURE_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        ours = {"BUCKETFERRY_UPLOAD__RESUME_WINDOW": "1m", "RUST_BACKTRACE": "1"}
        if tls := self.login.tls:
            ours["BUCKETFERRY_FTP__IMPLICIT_TLS_LISTEN"] = f'["{HOST}:{tls.implicit_port}"]'
        return own | ours | self.settings

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        answer = "nothing"
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise GatewayError(f"exited with {self.process.returncode}\n{self.log_tail()}")
            answer = self.readiness()
            if answer == "200":
                return
            time.sleep(0.05)
        raise GatewayError(f"/readyz said {answer} for {READY_WITHIN:.0f} s\n{self.log_tail()}")

    def readiness(self) -> str:
        try:
            url = f"http://{HOST}:{self.admin_port}/readyz"
            with urllib.request.urlopen(url, timeout=5) as response:
                return str(response.status)
        except urllib.error.HTTPError as error:
            return f"{error.code} {error.read().decode(errors='replace')}"
        except OSError as error:
            return str(error)

    def stop(self) -> None:
        if self.process.poll() is not None:
            raise GatewayError(f"died: exit code {self.process.returncode}\n{self.log_tail()}")
        self.process.terminate()
        try:
            code = self.process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            said = f"still runs {ENDS_WITHIN:.0f} s after SIGTERM\n{self.log_tail()}"
            raise GatewayError(said) from None
        if code != 0:
            raise GatewayError(f"exit code {code} after SIGTERM\n{self.log_tail()}")

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def free_range(count: int) -> int:
    """The first of `count` free ports in a row, below those that the system gives to clients."""
    for _ in range(200):
        first = random.randrange(20000, 32000 - count)
        if all(is_free(port) for port in range(first, first + count)):
            return first
    raise GatewayError(f"no {count} free ports in a row")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
