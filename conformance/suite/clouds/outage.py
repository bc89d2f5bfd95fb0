"""A server that dies while clients upload, and comes back: each hears the truth."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from ftplib import FTP, Error
from pathlib import Path

from suite.cases import MIB, content
from suite.gateway import Gateway, binary
from suite.s3 import S3Store

UPLOADS = 20
SIZE = 24 * MIB
CHUNK = MIB // 2
SENT_IN = 12.0
"""Seconds in which a client sends its file."""

DIES_AFTER = 5.0
AWAY = 20.0


def try_outage(store: S3Store, home: Path) -> list[str]:
    """What is wrong with what the clients heard."""
    settings = store.settings | {"BUCKETFERRY_UPLOAD__PART_SIZE": "5 MiB"}
    gateway = Gateway(binary(), store.url, settings, home / "outage.log")
    gateway.start()
    try:
        with ThreadPoolExecutor(UPLOADS) as pool:
            heard = [pool.submit(upload, gateway, number) for number in range(UPLOADS)]
            time.sleep(DIES_AFTER)
            store.die()
            time.sleep(AWAY)
            store.come_back()
            replies = [reply.result() for reply in heard]
    finally:
        gateway.stop()
    whole = sum(reply.startswith("226") for reply in replies)
    print(f"a server that died amid {UPLOADS} uploads: {whole} whole, "
          f"{UPLOADS - whole} refused: {sorted({reply[:60] for reply in replies})}", flush=True)
    return [wrong for number, reply in enumerate(replies) if (wrong := untrue(store, number, reply))]


def upload(gateway: Gateway, number: int) -> str:
    """The reply. Its clients begin one after the other, so that the server dies at every stage of an upload."""
    data = content(SIZE, number)
    time.sleep(random.Random(number).uniform(0, DIES_AFTER))
    with FTP() as ftp:
        ftp.connect(gateway.login.host, gateway.login.port, timeout=120)
        ftp.login(gateway.login.user, gateway.login.password)
        try:
            with ftp.transfercmd(f"STOR outage-{number}") as connection:
                for at in range(0, SIZE, CHUNK):
                    connection.sendall(data[at:at + CHUNK])
                    time.sleep(SENT_IN * CHUNK / SIZE)
        except OSError:
            # The gateway has given up; its reply says why.
            pass
        try:
            return ftp.getresp()
        except Error as error:
            return str(error)


def untrue(store: S3Store, number: int, reply: str) -> str | None:
    """What the store holds against what was said."""
    there = store.get(f"/outage-{number}")
    if there is not None and there != content(SIZE, number):
        return f"outage-{number}: {len(there)} bytes that are not the file"
    if reply.startswith("226"):
        return None if there is not None else f"outage-{number}: {reply}, but there is none"
    # Of an answer that was lost nobody knows; then the reply says so.
    if there is not None and "can't be reached to say" not in reply:
        return f"outage-{number}: {reply}, but it is there"
    return None if reply.startswith("4") else f"outage-{number}: {reply}"
