#!/usr/bin/env python3
"""Clients of a gateway, on a host of their own. Each command prints what its sessions met, as JSON.

traffic.py sessions ADDRESS COUNT         sessions of curl, lftp and ftplib, in every mode, each with an upload and a download
traffic.py load ADDRESS FOLDER            60 slow uploads at a time and 60 clients that come and go, until the input ends
traffic.py clients ADDRESS COUNT          only clients that come and go, until the input ends
traffic.py uploads ADDRESS COUNT FOLDER   so many slow uploads that end when the input does: the code of each, or what it met
traffic.py greetings ADDRESS...           clients that come to each address one after the other, until the input ends
"""

import ftplib
import hashlib
import io
import itertools
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

USER, PASSWORD = "ferry", "for-a-test"
AT_ONCE = 12
SMALL = 20_000
# An upload of so many bytes at the rate takes 5 seconds.
LARGE, RATE = 10 << 20, 2 << 20
BLOCK = 64 << 10
UPLOADS = CLIENTS = 60
# Between two sessions of a client that comes and goes.
PAUSE = 0.7
# An upload that lasts as long as a test wants has this rate.
SLOW_RATE = 1 << 20
# A client that only wants to be greeted waits so long, and tries again for a second.
KNOCK, RETRIES = 0.25, 1.0
PATIENCE = 30


class Extended(ftplib.FTP):
    """Extended passive mode, which ftplib uses with IPv6 only."""

    def makepasv(self) -> tuple[str, int]:
        """The peer's address, with the port of a 229."""
        return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername()) if self.is_extended else super().makepasv()

    is_extended = True


class Encrypted(ftplib.FTP_TLS):
    """TLS, and each data connection resumes the session of the control connection, as RFC 4217 recommends."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple:
        """A data connection by the control connection's session."""
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        return self.context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session), size


def sessions(address: str, count: int) -> list[str]:
    """What went wrong in so many sessions."""
    kinds = itertools.cycle([curl, lftp, library])
    modes = itertools.cycle(mode for mode in ("passive", "extended", "encrypted") for _ in range(3))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(session, kind, mode, address, Path(folder), number) for number, kind, mode in zip(range(count), kinds, modes)]
        return [failure for job in jobs if (failure := job.result())]


def session(kind: Callable, mode: str, address: str, folder: Path, number: int) -> str | None:
    """Sends a file and fetches it again; or why that failed."""
    sent, fetched = folder / f"{number}.sent", folder / f"{number}.fetched"
    sent.write_bytes(content(number, SMALL))
    try:
        kind(mode, address, sent, fetched, f"session-{number}")
    except (OSError, ftplib.Error, EOFError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", b"") or b""
        return f"{kind.__name__} {mode}: {error!r} {told.decode(errors='replace')[-300:]}"
    return None if fetched.is_file() and fetched.read_bytes() == sent.read_bytes() else f"{kind.__name__} {mode}: another file came back"


def curl(mode: str, address: str, sent: Path, fetched: Path, name: str) -> None:
    """One session of curl."""
    url = f"ftp://{address}/{name}"
    # This curl forgets a session of TLS 1.3 that it has used once.
    flags = {"passive": ["--disable-epsv"], "extended": [], "encrypted": ["--ssl-reqd", "--insecure", "--tls-max", "1.2"]}[mode]
    flags += ["--silent", "--show-error", "--max-time", str(PATIENCE), "--user", f"{USER}:{PASSWORD}"]
    execute("curl", *flags, "--upload-file", str(sent), url, "--next", *flags, url, "--output", str(fetched))


def lftp(mode: str, address: str, sent: Path, fetched: Path, name: str) -> None:
    """One session of lftp."""
    settings = ["net:timeout 10", "net:max-retries 1", "net:connection-limit 1", "cmd:fail-exit yes", "ftp:sync-mode no", "ssl:verify-certificate no",
                f"ftp:prefer-epsv {'no' if mode == 'passive' else 'yes'}", f"ftp:ssl-allow {'yes' if mode == 'encrypted' else 'no'}",
                "ftp:ssl-force " + ("yes" if mode == "encrypted" else "no"), "ftp:ssl-protect-data yes"]  # fmt: skip
    commands = [*(f"set {setting}" for setting in settings), f"open -u {USER},{PASSWORD} {address}", f"put {sent} -o {name}", f"get {name} -o {fetched}", "bye"]
    execute("lftp", "-c", "; ".join(commands))


def library(mode: str, address: str, sent: Path, fetched: Path, name: str) -> None:
    """One session of Python's ftplib."""
    ftp = Encrypted(timeout=PATIENCE) if mode == "encrypted" else Extended(timeout=PATIENCE)
    if isinstance(ftp, Extended):
        ftp.is_extended = mode == "extended"
    with ftp:
        ftp.connect(address)
        ftp.login(USER, PASSWORD)
        if isinstance(ftp, Encrypted):
            ftp.prot_p()
        ftp.storbinary(f"STOR {name}", io.BytesIO(sent.read_bytes()))
        with fetched.open("wb") as file:
            ftp.retrbinary(f"RETR {name}", file.write)


def execute(*command: str) -> None:
    """Runs a program that must succeed."""
    subprocess.run(command, check=True, capture_output=True, timeout=2 * PATIENCE, stdin=subprocess.DEVNULL)


def load(address: str, folder: Path) -> dict:
    """Uploads, and clients that come and go, until the input ends."""
    with Crowd() as uploads, Crowd() as clients:
        for number in range(UPLOADS):
            uploads.add(lambda number=number: upload_slowly(address, number, folder))
        for number in range(CLIENTS):
            clients.add(lambda number=number: come_and_go(address, number))
        sys.stdin.read()
    return {"uploads": uploads.told(), "clients": clients.told()}


def only_clients(address: str, count: int) -> dict:
    """Clients that come and go, until the input ends."""
    with Crowd() as clients:
        for number in range(count):
            clients.add(lambda number=number: come_and_go(address, number))
        sys.stdin.read()
    return clients.told()


def uploads(address: str, count: int, folder: Path) -> list[str]:
    """How so many uploads end that go on until the input ends."""
    is_over = threading.Event()
    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(upload_until, is_over, address, f"{address}-{number}", folder) for number in range(count)]
        sys.stdin.read()
        is_over.set()
        return [job.result() for job in jobs]


def upload_until(is_over: threading.Event, address: str, name: str, folder: Path) -> str:
    """The code of an upload of which all is where the gateways store; or what is wrong."""
    noise = Noise(name, is_over)
    try:
        with session_at(address) as ftp:
            reply = ftp.storbinary(f"STOR {name}", noise, BLOCK)
    except (OSError, ftplib.Error, EOFError) as error:
        return repr(error)
    return reply[:3] if hashlib.sha256((folder / name).read_bytes()).digest() == noise.sent.digest() else f"{reply}, and other bytes are there"


class Noise:
    """A file without an end, until it is over; only its name decides what is in it."""

    def __init__(self, name: str, is_over: threading.Event) -> None:
        self.source = random.Random(name)
        self.is_over = is_over
        self.sent = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes, not faster than the slow rate."""
        if self.is_over.wait(size / SLOW_RATE):
            return b""
        block = self.source.randbytes(size)
        self.sent.update(block)
        return block


def greetings(addresses: list[str]) -> dict[str, list[tuple[float, str]]]:
    """When clients came to each address, one at least, and how each was greeted."""
    is_over = threading.Event()
    with ThreadPoolExecutor(len(addresses)) as pool:
        jobs = {address: pool.submit(greetings_until, is_over, address) for address in addresses}
        sys.stdin.read()
        is_over.set()
        return {address: job.result() for address, job in jobs.items()}


def greetings_until(is_over: threading.Event, address: str) -> list[tuple[float, str]]:
    """The same of one address."""
    met: list[tuple[float, str]] = []
    while not (met and is_over.wait(KNOCK / 5)):
        begun = time.time()
        met.append((begun, greeting(address, begun + RETRIES)))
    return met


def greeting(address: str, deadline: float) -> str:
    """What a client hears first who tries again until then; nothing if nobody greets."""
    while time.time() < deadline:
        with suppress(OSError), socket.create_connection((address, ftplib.FTP_PORT), timeout=KNOCK) as connection:
            if heard := connection.makefile().readline().strip():
                return heard
        time.sleep(KNOCK / 5)
    return ""


class Crowd:
    """Threads that do the same again and again, and what they met."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self.threads: list[threading.Thread] = []
        self.done = 0
        self.failures: list[tuple[float, str]] = []
        self.lock = threading.Lock()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def add(self, job: Callable[[], None]) -> None:
        """One more that does this."""
        thread = threading.Thread(target=self.go_on, args=[job], daemon=True)
        self.threads.append(thread)
        thread.start()

    def go_on(self, job: Callable[[], None]) -> None:
        """Does it until all is over; what fails is noted."""
        time.sleep(random.random() * PAUSE)
        while not self.is_over.is_set():
            begun = time.time()
            try:
                job()
                with self.lock:
                    self.done += 1
            except (OSError, ftplib.Error, EOFError, AssertionError) as error:
                with self.lock:
                    self.failures.append((begun, f"after {time.time() - begun:.1f} s: {error!r}"))
            self.is_over.wait(PAUSE)

    def told(self) -> dict:
        """How many went well, and when others began and what they met."""
        return {"done": self.done, "failures": self.failures}


def upload_slowly(address: str, number: int, folder: Path) -> None:
    """An upload at the rate; then all of it must be where the gateways store."""
    sent = content(number, LARGE)
    with session_at(address) as ftp:
        ftp.storbinary(f"STOR upload-{number}", Slow(sent), BLOCK)
    stored = (folder / f"upload-{number}").read_bytes()
    assert stored == sent, f"226, and of {len(sent)} bytes there are {len(stored)}, or others"


class Slow(io.BytesIO):
    """Bytes that come at the rate."""

    begun: float | None = None

    def read(self, size: int | None = -1) -> bytes:
        """The next ones, not before their time."""
        self.begun = self.begun or time.monotonic()
        time.sleep(max(0.0, self.begun + self.tell() / RATE - time.monotonic()))
        return super().read(size)


def come_and_go(address: str, number: int) -> None:
    """A session with an upload and a download."""
    sent, fetched = content(number, SMALL), io.BytesIO()
    with session_at(address) as ftp:
        ftp.storbinary(f"STOR client-{number}", io.BytesIO(sent))
        ftp.retrbinary(f"RETR client-{number}", fetched.write)
    assert fetched.getvalue() == sent, "another file came back"


@contextmanager
def session_at(address: str) -> Iterator[ftplib.FTP]:
    """A session by passive mode, or by extended."""
    ftp = Extended(timeout=PATIENCE)
    ftp.is_extended = random.random() < 0.5
    try:
        ftp.connect(address)
        ftp.login(USER, PASSWORD)
        yield ftp
        # Who has what it came for doesn't mind whether it hears 221, or 421 of a pod that drains.
        with suppress(ftplib.Error, EOFError, OSError):
            ftp.quit()
    finally:
        ftp.close()


def content(number: int, size: int) -> bytes:
    """Noise that only the number decides."""
    return random.Random(number).randbytes(size)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sessions", address, count]:
            print(json.dumps(sessions(address, int(count))))
        case ["load", address, folder]:
            print(json.dumps(load(address, Path(folder))))
        case ["clients", address, count]:
            print(json.dumps(only_clients(address, int(count))))
        case ["uploads", address, count, folder]:
            print(json.dumps(uploads(address, int(count), Path(folder))))
        case ["greetings", *addresses]:
            print(json.dumps(greetings(addresses)))
        case _:
            sys.exit(__doc__)
