"""Where uploads happen: a gateway on a folder, its log, and the ways to it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from suite.clients.base import Login

PATIENCE = 4.0
"""Seconds after which the gateway has noticed that a client is gone, however busy this machine is."""


class Transcript:
    """What the gateway's log says of each upload, read as it grows."""

    def __init__(self, log: Path) -> None:
        self.log = log.open()
        self.begun: set[str] = set()
        self.ended: dict[str, str] = {}
        self.lock = threading.Lock()

    def has_begun(self, remote: str) -> bool:
        """Whether the client has been told to send."""
        with self.lock:
            self.read_on()
            return "/" + remote in self.begun

    def outcome_of(self, remote: str) -> str | None:
        """How the upload to this name ended; `None` if none began."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with self.lock:
                self.read_on()
                if outcome := self.ended.pop("/" + remote, None):
                    return outcome
            time.sleep(0.01)
        return None

    def read_on(self) -> None:
        while True:
            start = self.log.tell()
            line = self.log.readline()
            if not line.endswith("\n"):
                # The rest of it is still being written.
                self.log.seek(start)
                return
            if '"message":"transfer begins"' in line:
                self.begun.add(json.loads(line)["path"])
            elif '"message":"transfer"' in line:
                event = json.loads(line)
                self.ended[event["path"]] = event["outcome"]


class Proxy:
    """A process before the gateway that holds everything back for a while, and resets what it is told to."""

    def __init__(self, login: Login, delay: int) -> None:
        command = [sys.executable, str(Path(__file__).parent / "proxy.py"), login.host,
                   str(login.port), str(delay)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.lock = threading.Lock()

    def reset(self, remote: str) -> None:
        with self.lock:
            print(remote, file=self.process.stdin, flush=True)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Way:
    """How clients get to the gateway, and what they work with."""

    home: Path
    broken_read: Path
    transcript: Transcript
    proxy: Proxy
    direct: Login
    proxied: Login

    def login(self, harm: str) -> Login:
        """Only a proxy can reset connections of others."""
        return self.proxied if harm == "reset" else self.direct


@contextmanager
def proxy_before(login: Login, delay: int) -> Iterator[Proxy]:
    proxy = Proxy(login, delay)
    try:
        yield proxy
    finally:
        proxy.stop()
