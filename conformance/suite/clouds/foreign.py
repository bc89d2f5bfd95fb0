"""A back-end that is not ours, on its server: what it can't do is refused, and no client that dies leaves anything."""

import random
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ftplib import FTP, Error
from io import BytesIO
from pathlib import Path

from suite.cases import MIB, content
from suite.gateway import Gateway, binary
from suite.stores import Store

KILLED = 200
SIDE_BY_SIDE = 8
SETTLES_WITHIN = 3.0
"""Seconds after which what is on its way to the store has arrived."""


def try_driver(store: Store, home: Path) -> list[str]:
    """What is wrong with it."""
    gateway = Gateway(binary(), store.url, store.settings, home / "gateway.log")
    gateway.start()
    try:
        return [f"{attempt.__name__}: {wrong}" for attempt in (limits, killed_half_way)
                for wrong in attempt(gateway, store, home)]
    finally:
        gateway.stop()


def limits(gateway: Gateway, store: Store, _: Path) -> list[str]:
    """Each is refused with its code, and the file is as it was."""
    old = content(1000)
    store.put("/old.bin", old)
    with FTP() as ftp:
        ftp.connect(gateway.login.host, gateway.login.port, timeout=30)
        ftp.login(gateway.login.user, gateway.login.password)
        attempts: list[tuple[str, str, Callable[[], object]]] = [
            ("APPE", "502", lambda: ftp.storbinary("APPE old.bin", BytesIO(b"more"))),
            ("REST and STOR", "554", lambda: ftp.storbinary("STOR old.bin", BytesIO(b"more"), rest=500)),
            ("RNTO", "502", lambda: ftp.rename("old.bin", "new.bin")),
        ]
        wrong = [f"{what} was answered with {said}" for what, code, attempt in attempts
                 if not (said := answer(attempt)).startswith(code)]
        ftp.quit()
    if store.get("/old.bin") != old or store.get("/new.bin") is not None:
        wrong.append("the file is not as it was")
    return wrong


def answer(attempt: Callable[[], object]) -> str:
    try:
        return str(attempt())
    except Error as error:
        return str(error)


def killed_half_way(gateway: Gateway, store: Store, home: Path) -> list[str]:
    """Neither a new name nor one that was there before shows anything of them."""
    whole = home / "whole.bin"
    whole.write_bytes(content(8 * MIB))
    old = content(1000)
    for number in range(0, KILLED, 2):
        store.put(f"/killed/{number}", old)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        began = sum(pool.map(lambda number: kill_one(gateway, whole, number), range(KILLED)))
    time.sleep(SETTLES_WITHIN)
    there = store.keys("/killed")
    wrong = [f"{name} is there" for name in sorted(there) if int(name) % 2]
    wrong += [f"{number} has changed" for number in range(0, KILLED, 2)
              if store.get(f"/killed/{number}") != old]
    print(f"{KILLED} uploads killed, {began} of them amid their data; {len(wrong)} left something", flush=True)
    if began < KILLED * 3 // 4:
        wrong.append(f"only {began} of {KILLED} had begun: too few to prove anything")
    return wrong


def kill_one(gateway: Gateway, whole: Path, number: int) -> bool:
    """Whether it was amid its data."""
    login = gateway.login
    curl = subprocess.Popen(
        ["curl", "--silent", "--limit-rate", "8M", "--upload-file", str(whole),
         "--user", f"{login.user}:{login.password}",
         f"ftp://{login.host}:{login.port}/killed/{number}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.Random(number).uniform(0.25, 0.75))
    lives = curl.poll() is None
    curl.kill()
    curl.wait()
    return lives
