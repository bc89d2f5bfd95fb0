"""What large directories and appends to large files take on a server that nobody here wrote, beside what the server alone takes."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ftplib import FTP

from suite.cases import MIB
from suite.gateway import Gateway, binary
from suite.stores import Store

AT_ONCE = 16
"""Clients that prepare what is measured."""

CHUNK = 4 * MIB


@dataclass
class Scale:
    """How much there is of everything."""

    listed: int = 100_000
    renamed: int = 10_000
    base: int = 1024 * MIB
    added: int = MIB
    rounds: int = 3


LESS = Scale(listed=5_000, renamed=1_000)
"""On Azurite: it takes the longer for each blob the more there are, and lets requests wait for a minute at 20,000."""

QUICK = Scale(listed=5_000, renamed=500, base=64 * MIB, rounds=1)


def measure(name: str, store: Store, scale: Scale) -> list[str]:
    """Rows of a table. The medians of a few rounds, since these machines are noisy."""
    gateway = Gateway(binary(), store.url, store.settings, store.home / "measure.log")
    gateway.start()
    try:
        with login(gateway) as ftp:
            # The listed objects last: Azurite is slow at all else among many.
            return [*renames(name, store, ftp, scale), *appends(name, ftp, scale), *listings(name, store, ftp, scale)]
    finally:
        gateway.stop()


def login(gateway: Gateway) -> FTP:
    ftp = FTP()
    ftp.connect(gateway.login.host, gateway.login.port, timeout=900)
    ftp.login(gateway.login.user, gateway.login.password)
    ftp.voidcmd("TYPE I")
    return ftp


def listings(name: str, store: Store, ftp: FTP, scale: Scale) -> list[str]:
    """`LIST` against the same pages, asked of the server alone."""
    fill(store, "many", scale.listed)
    alone = seconds(lambda: count(len(store.keys("/many")), scale.listed), scale.rounds)
    lines: list[str] = []

    def listed() -> None:
        lines.clear()
        ftp.retrlines("LIST many", lines.append)
        count(len(lines), scale.listed)

    return [row(name, f"{scale.listed:,} objects listed, s", seconds(listed, scale.rounds), alone)]


def renames(name: str, store: Store, ftp: FTP, scale: Scale) -> list[str]:
    """A directory, there and back again."""
    fill(store, "dir-0", scale.renamed)
    took = []
    for turn in range(scale.rounds):
        began = time.monotonic()
        ftp.rename(f"dir-{turn}", f"dir-{turn + 1}")
        took.append(time.monotonic() - began)
    count(len(store.keys(f"/dir-{scale.rounds}")), scale.renamed)
    return [row(name, f"a directory of {scale.renamed:,} renamed, s", statistics.median(took))]


def appends(name: str, ftp: FTP, scale: Scale) -> list[str]:
    """An append to a large file against a file of that size alone."""
    send(ftp, "STOR large", scale.base)
    alone = seconds(lambda: send(ftp, "STOR small", scale.added), scale.rounds)
    took = seconds(lambda: send(ftp, "APPE large", scale.added), scale.rounds)
    count(ftp.size("large") or 0, scale.base + scale.rounds * scale.added)
    title = f"{scale.added // MIB} MiB appended to {scale.base // MIB:,} MiB, s"
    return [row(name, title, took, alone)]


def send(ftp: FTP, command: str, size: int) -> None:
    with ftp.transfercmd(command) as connection:
        for at in range(0, size, CHUNK):
            connection.sendall(bytes(min(CHUNK, size - at)))
    ftp.voidresp()


def fill(store: Store, directory: str, files: int) -> None:
    """Small objects, as other programs have put them."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda number: store.put(f"/{directory}/{number:06}", b"x"), range(files)):
            pass


def seconds(work: Callable[[], None], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        work()
        took.append(time.monotonic() - began)
    return statistics.median(took)


def count(found: int, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"found {found} instead of {wanted}")


def row(name: str, what: str, took: float, alone: float | None = None) -> str:
    beside = f"{alone:8.2f} {took / alone:6.2f}" if alone else f"{'-':>8} {'-':>6}"
    return f"{name:<10} {what:<44} {took:8.2f} {beside}"


HEADER = f"{'server':<10} {'measure':<44} {'gateway':>8} {'alone':>8} {'ratio':>6}"
