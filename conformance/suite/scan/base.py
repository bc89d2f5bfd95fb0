"""What a scan is given, what it finds, and how it runs its program."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from suite.clients.base import Login, transcript

TIMEOUT = 300.0

ACTIVE = {"BUCKETFERRY_ACTIVE__ENABLED": "true"}
"""Of a gateway whose active mode is to be looked at as well."""


class ScanError(Exception):
    """The scan has not looked at what it should."""


class MissedError(ScanError):
    """What was recorded has a gap: that says nothing of the gateway, so it is done again."""


@dataclass(frozen=True)
class Target:
    """A gateway with TLS, and a folder for whatever the scan writes."""

    login: Login
    home: Path

    @property
    def control(self) -> str:
        """Where `AUTH TLS` is said."""
        return f"{self.login.host}:{self.login.port}"

    @property
    def implicit(self) -> str:
        """Where TLS is spoken from the first byte on."""
        return f"{self.login.host}:{self.login.tls.implicit_port}"


@dataclass(frozen=True)
class Outcome:
    """How many things were looked at, and the lines that are not as they should be."""

    looked_at: int
    findings: list[str]


@dataclass(frozen=True)
class Scan:
    """A named scan."""

    name: str
    run: Callable[[Target], Outcome]
    allowed: dict[str, str]
    """Findings that are none: a part of the line, and why."""


def run(target: Target, *command: str, fails_from: int = 1) -> str:
    """What a program says on both of its outputs."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(target.home), "LC_ALL": "C.UTF-8",
                   "TERM": "dumb"}
    try:
        done = subprocess.run(command, cwd=target.home, env=environment, timeout=TIMEOUT,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False)
    except FileNotFoundError:
        raise ScanError(f"{command[0]} is not installed (README.md says from where)") from None
    except subprocess.TimeoutExpired as error:
        outcome = f"no end within {TIMEOUT:.0f} s"
        raise ScanError(transcript(command, "", outcome, error.stdout or b"")) from None
    if done.returncode >= fails_from or done.returncode < 0:
        raise ScanError(transcript(command, "", f"exit code {done.returncode}", done.stdout))
    return done.stdout.decode(errors="replace")


def expect_lines(said: str, *wanted: str) -> None:
    """Without these, the scanner has not come as far as to find anything."""
    for line in wanted:
        if line not in said:
            raise ScanError(f"not said: {line}\n{said}")
