"""A store's server: a process with its output in a file, waited for, and ended whatever happens."""

import os
import shutil
import subprocess
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from suite.stores import StoreError

STOPS_WITHIN = 10.0


class Server:
    """One process, in a folder of its own."""

    def __init__(self, command: list[str], folder: Path, log: Path,
                 environment: dict[str, str] | None = None) -> None:
        self.log = log
        self.name = Path(command[0]).name
        # Also if this process is killed.
        tied = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*tied, *command], cwd=folder, env=os.environ | (environment or {}),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def wait_for(self, ask: Callable[[], None], seconds: float) -> None:
        """Until it answers `ask` without an error."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                ask()
                return
            except urllib.error.HTTPError as error:
                raise StoreError(f"{self.name}: {error} {error.read()!r}") from error
            except OSError:
                time.sleep(0.1)
        said = self.log.read_text(errors="replace")
        raise StoreError(f"{self.name} does not answer\n{said}")

    def kill(self) -> None:
        """Without asking."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Asks it to end, and ends it if it does not."""
        self.process.terminate()
        try:
            self.process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
