"""What happens to clients, and which deaths no server can tell from the end of a file."""

import fcntl
import os
import random
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from suite.clients.base import ClientError, Login
from suite.killed.place import Proxy, Way
from suite.killed.senders import Sender, Upload

ENDS_WITHIN = 30.0

SOURCE_HANGS = 0.3
"""Seconds in which all that was sent before has arrived, also through the proxy."""

THROW = b"THROW"
"""Makes the programs of this suite raise an exception."""

LOOKS_WHOLE = {
    ("curl", "error"): "it takes a read that fails for the end of its input, and waits for the reply",
    ("tnftp", "error"): "it closes its data connection as after a whole file, and goes on",
    ("ncftp", "error"): "it closes its data connection as after a whole file, and waits for the reply",
    ("php", "error"): "ftp_fput takes an exception in its stream for the end, and waits for the reply",
}
"""What is published all the same: the sender closes its data connection half-way, and lives."""


def looks_whole(client: str, harm: str) -> str | None:
    """Why this harm can't be told from the end of a file."""
    return LOOKS_WHOLE.get((client, harm))


@dataclass(frozen=True)
class Victim:
    """A client in the middle of its upload, which has sent what comes before the cut."""

    process: subprocess.Popen
    sender: Sender
    upload: Upload
    proxy: Proxy

    def send(self, more: bytes) -> None:
        """A client that is gone takes no more."""
        with suppress(BrokenPipeError):
            self.process.stdin.write(more)
            self.process.stdin.flush()

    def end_input(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()


def kill(victim: Victim) -> None:
    victim.process.kill()


def terminate(victim: Victim) -> None:
    victim.process.terminate()


def fail(victim: Victim) -> None:
    """An exception, or a read that fails; of the latter the client knows already."""
    if victim.sender.throws:
        # A source that fails has been waited for. An exception right behind the last bytes, within a block, may not be
        # told from the end of a file: docs/operations.md says so.
        time.sleep(SOURCE_HANGS)
        victim.send(THROW)


def reset(victim: Victim) -> None:
    victim.proxy.reset(victim.upload.remote)


def spare(victim: Victim) -> None:
    """Nothing happens: it must end well."""
    if not victim.sender.paced:
        victim.send(victim.upload.content[victim.upload.cut:])
    victim.end_input()
    if code := victim.process.wait(ENDS_WITHIN):
        raise ClientError(f"{victim.sender.name} ended with {code}")


@dataclass(frozen=True)
class Harm:
    """What is done to a client in the middle of its upload."""

    name: str
    act: Callable[[Victim], None]


HARMS = [
    Harm("none", spare),
    Harm("kill", kill),
    Harm("terminate", terminate),
    Harm("error", fail),
    Harm("reset", reset),
]


@contextmanager
def harmed(harm: Harm, sender: Sender, login: Login, upload: Upload, way: Way) -> Iterator[None]:
    """A client that uploads up to the cut, and is harmed then; it is gone in the end."""
    file = way.home / f"{upload.remote}.source"
    if sender.paced:
        file.write_bytes(upload.content)
    environment = {"PATH": os.environ["PATH"], "HOME": str(way.home), "LC_ALL": "C.UTF-8"}
    if harm.name == "error" and not sender.throws:
        environment |= {"LD_PRELOAD": str(way.broken_read), "FAIL_AFTER": str(upload.cut)}
        if sender.paced:
            environment["FAIL_PATH"] = str(file)
    process = subprocess.Popen(
        sender.command(login, upload, file), env=environment, cwd=way.home, stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    victim = Victim(process, sender, upload, way.proxy)
    try:
        victim.send(sender.script(login, upload, file).encode() if sender.paced
                    else upload.content[:upload.cut])
        wait_until(lambda: way.transcript.has_begun(upload.remote), process)
        if not sender.paced:
            wait_until(lambda: has_taken(process), process)
        # Not always at the same moment of what it does then.
        time.sleep(random.uniform(0.0, 0.1))
        harm.act(victim)
        yield
    finally:
        process.kill()
        process.wait()
        victim.end_input()
        file.unlink(missing_ok=True)


def wait_until(holds: Callable[[], bool], process: subprocess.Popen) -> None:
    """Or until the client is gone."""
    deadline = time.monotonic() + ENDS_WITHIN
    while not holds() and process.poll() is None:
        if time.monotonic() > deadline:
            raise TimeoutError("the client does not begin its upload")
        time.sleep(0.002)


def has_taken(process: subprocess.Popen) -> bool:
    """Whether nothing is left in the pipe to a client, which reads from it only when it may send."""
    waiting = fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))
    return int.from_bytes(waiting, sys.byteorder) == 0

