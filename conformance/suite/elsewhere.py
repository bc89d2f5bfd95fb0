"""An upload whose gateway is killed in the middle, and which goes on at another gateway on the same bucket."""

import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from ftplib import FTP
from pathlib import Path

from suite import cases, report
from suite.clients.base import Client, Login
from suite.clients.curl import Curl
from suite.clients.lftp import Lftp
from suite.gateway import HOST, Gateway, binary
from suite.stores import Store

CASE = "resume-elsewhere"

ROWS = ("s3",)
"""Where an upload outlives its gateway."""

CLIENTS: list[type[Client]] = [Curl, Lftp]
"""Those that ask for the size before they go on."""

PART = 5 << 20
SIZE = 24 << 20
CUT = SIZE * 6 // 10

SENT_IN = 4.0
"""Seconds in which the first gateway gets what comes before the cut: it tells others only now and then."""

FOREIGN = b"#"
"""What comes before the cut is not what comes again: a client that starts over is found out."""


def try_all(row: str, store: Store, home: Path,
            clients: list[type[Client]]) -> Iterator[report.Result]:
    for kind in CLIENTS:
        if kind not in clients:
            continue
        folder = home / f"{CASE}-{kind.name}"
        folder.mkdir()
        started = time.monotonic()
        try:
            resume(kind, store, folder)
            result = report.passed(row, kind.name, CASE, time.monotonic() - started)
        except Exception as error:  # whatever went wrong is the result of this case
            detail = f"{type(error).__name__}: {error}"
            result = report.failed(row, kind.name, CASE, time.monotonic() - started, detail)
        print(f"{row}: {CASE} {kind.name} {time.monotonic() - started:.1f} s", flush=True)
        yield result


def resume(kind: type[Client], store: Store, folder: Path) -> None:
    directory = f"{cases.TOP}/{CASE}"
    store.put(f"{directory}/keep", b"this file makes the directory exist")
    path = f"{directory}/{kind.name}.bin"
    settings = store.settings | {"BUCKETFERRY_UPLOAD__PART_SIZE": f"{PART >> 20} MiB"}
    # moto says of every upload that it is years old, and a gateway sweeps at its start: so both start before.
    dies, other = (Gateway(binary(), store.url, settings, folder / f"{name}.log")
                   for name in ("dies", "other"))
    other.start()
    try:
        die_half_way(dies, path)
        go_on(kind, store, folder, other, path)
    finally:
        other.stop()


def die_half_way(gateway: Gateway, path: str) -> None:
    gateway.start()
    try:
        sending = send_slowly(gateway.login, path)
    finally:
        gateway.process.kill()
        gateway.process.wait()
    sending.close()


def send_slowly(login: Login, path: str) -> "Sending":
    """Sends what comes before the cut. The upload is still running then."""
    sending = Sending(login, path)
    for _ in range(100):
        sending.data.sendall(FOREIGN * (CUT // 100))
        time.sleep(SENT_IN / 100)
    time.sleep(0.5)
    return sending


class Sending:
    """An upload that runs, and whose client does not close anything before its gateway is gone."""

    def __init__(self, login: Login, path: str) -> None:
        self.ftp = connected(login)
        self.data = self.ftp.transfercmd(f"STOR {path}")

    def close(self) -> None:
        self.data.close()
        self.ftp.close()


def go_on(kind: type[Client], store: Store, folder: Path, other: Gateway, path: str) -> None:
    whole = cases.content(SIZE)
    local = folder / "local.bin"
    local.write_bytes(whole)
    kept = size_of(other.login, path)
    if not 0 < kept <= CUT or kept % PART:
        raise cases.Failure(f"kept of {CUT} bytes in parts of {PART}: {kept}")
    kind(other.login, folder).resume_upload(local, path)
    cases.expect_bytes(path, store.get(path), FOREIGN * kept + whole[kept:])
    received = received_by(other)
    if received != SIZE - kept:
        raise cases.Failure(f"{received} bytes were sent where {SIZE - kept} were missing")
    # A gateway that is killed soon after its start may leave what it tried the store with.
    left = {key for key in store.keys("/.bucketferry") if not key.startswith("probes/")}
    cases.expect_same("what is left", left, set())


def size_of(login: Login, path: str) -> int:
    with connected(login) as ftp:
        return ftp.size(path) or 0


def connected(login: Login) -> FTP:
    ftp = FTP()
    ftp.connect(login.host, login.port, timeout=30)
    ftp.login(login.user, login.password)
    ftp.voidcmd("TYPE I")
    return ftp


def received_by(gateway: Gateway) -> int:
    url = f"http://{HOST}:{gateway.admin_port}/metrics"
    with closing(urllib.request.urlopen(url, timeout=5)) as response:
        lines = response.read().decode().splitlines()
    name = 'bucketferry_transferred_bytes_total{direction="upload"}'
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith(name))
