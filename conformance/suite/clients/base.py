"""What every driver can do, and how it runs its program."""

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

TIMEOUT = 120.0


class ClientError(Exception):
    """The client reported a failure."""


class ClientUnusable(Exception):
    """The client is missing or hangs: a failure even where the client should report one."""


@dataclass(frozen=True)
class Tls:
    """How the server is known, and where it speaks TLS from the first byte on."""

    authority: Path
    """The file with the certificate that has signed the server's."""
    implicit_port: int


@dataclass(frozen=True)
class Login:
    """The server and who logs in there; with TLS, nothing may cross in clear."""

    host: str
    port: int
    user: str
    password: str
    tls: Tls | None = None


class Client(ABC):
    """A client. Remote paths are absolute; each method raises `ClientError` if the client fails."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]] = ()
    install: ClassVar[str] = ""
    cannot: ClassVar[dict[str, str]] = {}
    """Cases for which the client has no command, each with the reason."""
    left_out: ClassVar[dict[str, str]] = {}
    """Rows of the suite in which the client can do nothing at all, each with the reason."""
    only_in: ClassVar[tuple[str, ...]] = ()
    """The rows for which this form of a client is there; if empty, all of them."""

    def __init__(self, login: Login, home: Path) -> None:
        self.login = login
        self.home = home

    @abstractmethod
    def version(self) -> str: ...

    @abstractmethod
    def upload(self, local: Path, remote: str) -> None: ...

    @abstractmethod
    def append(self, local: Path, remote: str) -> None:
        """Adds all of `local` to the end of `remote`."""

    @abstractmethod
    def resume_upload(self, local: Path, remote: str) -> None:
        """Sends of `local` what `remote` lacks."""

    @abstractmethod
    def download(self, remote: str, local: Path) -> None: ...

    @abstractmethod
    def resume_download(self, remote: str, local: Path) -> None:
        """Fetches of `remote` what `local` lacks."""

    @abstractmethod
    def list(self, directory: str) -> set[str]:
        """The names in a directory."""

    @abstractmethod
    def list_with_flags(self, directory: str) -> set[str]:
        """The same, asked with the flags of `ls`, as in `LIST -la`."""

    @abstractmethod
    def rename(self, old: str, new: str) -> None: ...

    @abstractmethod
    def delete(self, remote: str) -> None: ...

    @abstractmethod
    def mkdir(self, directory: str) -> None: ...

    @abstractmethod
    def rmdir(self, directory: str) -> None: ...

    def _run(self, *command: str, script: str = "", with_stderr: bool = False,
             environment: dict[str, str] | None = None) -> str:
        """Runs the client with `script` on its standard input; its output, if it exits with 0."""
        def told(outcome: str, *said: bytes | None) -> str:
            return transcript(command, script, outcome, b"".join(part or b"" for part in said))

        try:
            done = subprocess.run(
                command, input=script.encode(), timeout=TIMEOUT, cwd=self.home,
                env=self._environment() | (environment or {}), stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if with_stderr else subprocess.PIPE, check=False)
        except FileNotFoundError:
            raise ClientUnusable(f"{command[0]} is not installed ({self.install})") from None
        except subprocess.TimeoutExpired as error:
            outcome = f"no end within {TIMEOUT:.0f} s"
            raise ClientUnusable(told(outcome, error.stdout, error.stderr)) from None
        if done.returncode != 0:
            raise ClientError(told(f"exit code {done.returncode}", done.stdout, done.stderr))
        return done.stdout.decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        """No proxies, no configuration of whoever runs the suite, and names in UTF-8."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8",
                "TERM": "dumb"}

    def _missing(self) -> str | None:
        for program in self.programs:
            if not shutil.which(program):
                return f"{program} MISSING"
        return None


def transcript(command: tuple[str, ...], script: str, outcome: str, said: bytes | str) -> str:
    """What was run and said, for whoever has to find out why."""
    if isinstance(said, bytes):
        said = said.decode(errors="replace")
    lines = [outcome, "$ " + " ".join(command)]
    lines += [f"> {line}" for line in script.splitlines()]
    lines += said.replace("\r", "\n").splitlines()[-40:]
    return "\n".join(lines)


def split(remote: str) -> tuple[str, str]:
    """Directory and name of a path."""
    directory, _, name = remote.rpartition("/")
    return directory or "/", name


def names_of_long_listing(listing: str) -> set[str]:
    """The names in the lines of `ls -l`."""
    lines = [line.rstrip("\r") for line in listing.splitlines()]
    entries = [line.split(maxsplit=8) for line in lines if line[:1] in ("-", "d")]
    return {entry[8] for entry in entries if len(entry) == 9} - {".", ".."}
