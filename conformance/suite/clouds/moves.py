"""Renames from one real server into another, while the gateway or one of the servers is killed: no file is lost."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from ftplib import FTP, Error
from pathlib import Path

from suite.azurite import AzuriteStore
from suite.cases import MIB, content
from suite.gateway import Gateway, binary
from suite.s3 import S3Store
from suite.stores import Store

FILES = 24
SIZE = 12 * MIB
CLIENTS = 4
KILLED_AFTER = 0.5
AWAY = 3.0
MOUNT = "/archive"


class TwoStores(Gateway):
    """A gateway whose user sees the second store below `MOUNT`."""

    def __init__(self, first: S3Store, second: AzuriteStore, log: Path) -> None:
        prefix = "BUCKETFERRY_STORE__"
        named = {name.replace(prefix, "BUCKETFERRY_STORES__ARCHIVE__"): value
                 for name, value in second.settings.items()}
        users = log.with_suffix(".users.toml")
        settings = first.settings | named | {
            "BUCKETFERRY_STORES__ARCHIVE__URL": second.url,
            "BUCKETFERRY_USERS__FILE": str(users),
            "BUCKETFERRY_UPLOAD__PART_SIZE": "5 MiB",
        }
        super().__init__(binary(), first.url, settings, log)
        hashed = subprocess.run([self.binary, "hash-password"], input=self.login.password, text=True,
                                capture_output=True, check=True).stdout.strip()
        users.write_text(f'[[user]]\nname = "{self.login.user}"\npassword_hash = "{hashed}"\n'
                         f'[[user.mount]]\npath = "{MOUNT}"\nstore = "archive"\n')
        users.chmod(0o600)

    def arguments(self) -> list[str]:
        arguments = super().arguments()
        at = arguments.index("--user")
        return arguments[:at] + arguments[at + 2:]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def try_moves(first: S3Store, home: Path) -> list[str]:
    """What is wrong with what became of the files."""
    with AzuriteStore(home) as second:
        wrong = []
        for what, victim in (("nobody", None), ("the gateway", "gateway"), ("the source", "source")):
            wrong += [f"{what} was killed: {it}" for it in try_one(first, second, home, what, victim)]
        return wrong


def try_one(first: S3Store, second: AzuriteStore, home: Path, what: str, victim: str | None) -> list[str]:
    name = victim or "nobody"
    for number in range(FILES):
        first.put(f"/{name}-{number}", content(SIZE, number))
    gateway = TwoStores(first, second, home / f"moves-{name}.log")
    gateway.start()
    with ThreadPoolExecutor(CLIENTS) as pool:
        heard = [pool.submit(move, gateway, f"{name}-{number}") for number in range(FILES)]
        time.sleep(KILLED_AFTER)
        if victim == "gateway":
            gateway.kill()
        elif victim == "source":
            first.die()
            time.sleep(AWAY)
            first.come_back()
        replies = [reply.result() for reply in heard]
    if victim != "gateway":
        gateway.stop()
    moved = sum(reply.startswith("250") for reply in replies)
    print(f"{FILES} files renamed into another store, {what} was killed: {moved} heard 250, the others "
          f"{sorted({reply[:60] for reply in replies if not reply.startswith('250')})}", flush=True)
    if victim is None and moved != FILES:
        return [f"only {moved} were renamed: {sorted(set(replies))}"]
    found = (untrue(first, second, f"/{name}-{number}", content(SIZE, number), reply)
             for number, reply in enumerate(replies))
    return [wrong for wrong in found if wrong]


def move(gateway: Gateway, name: str) -> str:
    """The reply, or what came instead of one."""
    try:
        with FTP() as ftp:
            ftp.connect(gateway.login.host, gateway.login.port, timeout=120)
            ftp.login(gateway.login.user, gateway.login.password)
            return ftp.rename(name, f"{MOUNT}/{name}")
    except (OSError, EOFError, Error) as error:
        return str(error) or type(error).__name__


def untrue(first: Store, second: Store, path: str, data: bytes, reply: str) -> str | None:
    """What the stores hold against what was said."""
    old, new = first.get(path), second.get(path)
    for where, found in (("old", old), ("new", new)):
        if found is not None and found != data:
            return f"{path}: {len(found)} bytes at the {where} name that are not the file"
    if old is None and new is None:
        return f"{path}: it is nowhere; the client heard {reply}"
    if reply.startswith("250") and (old is not None or new is None):
        return f"{path}: {reply}, but it is not at its new name alone"
    return None
