"""lftp: scripts on its standard input, names in double quotes."""

from pathlib import Path
from typing import ClassVar

from suite.clients.base import Client, names_of_long_listing, split


NO_APPEND = "its put knows -c (REST and STOR) but no APPE"


class Lftp(Client):
    name = "lftp"
    programs = ("lftp",)
    install = "apt-get install lftp"
    cannot: ClassVar[dict[str, str]] = {"append": NO_APPEND, "append-to-large": NO_APPEND}

    def version(self) -> str:
        if missing := self._missing():
            return missing
        return " ".join(self._run("lftp", "--version").split()[:4]).replace(" | Version", "")

    def upload(self, local: Path, remote: str) -> None:
        directory, name = split(remote)
        self._lftp(f"cd {word(directory)}", f"put {word(local)} -o {word(name)}")

    def append(self, local: Path, remote: str) -> None:
        raise NotImplementedError(self.cannot["append"])

    def resume_upload(self, local: Path, remote: str) -> None:
        directory, name = split(remote)
        self._lftp(f"cd {word(directory)}", f"put -c {word(local)} -o {word(name)}")

    def download(self, remote: str, local: Path) -> None:
        directory, name = split(remote)
        self._lftp(f"cd {word(directory)}", f"get -- {word(name)} -o {word(local)}")

    def resume_download(self, remote: str, local: Path) -> None:
        directory, name = split(remote)
        self._lftp(f"cd {word(directory)}", f"get -c -- {word(name)} -o {word(local)}")

    def list(self, directory: str) -> set[str]:
        # A name that begins with a tilde is listed as `./~name`.
        listing = self._lftp(f"cd {word(directory)}", "cls -1").splitlines()
        return {line.removeprefix("./").rstrip("/") for line in listing}

    def list_with_flags(self, directory: str) -> set[str]:
        return names_of_long_listing(self._lftp(f"cd {word(directory)}", "ls -la"))

    def rename(self, old: str, new: str) -> None:
        self._lftp(f"mv {word(old)} {word(new)}")

    def delete(self, remote: str) -> None:
        directory, name = split(remote)
        self._lftp(f"cd {word(directory)}", f"rm -- {word(name)}")

    def mkdir(self, directory: str) -> None:
        self._lftp(f"mkdir {word(directory)}")

    def rmdir(self, directory: str) -> None:
        self._lftp(f"rmdir {word(directory)}")

    def _lftp(self, *commands: str) -> str:
        login = self.login
        script = [
            "set cmd:fail-exit true",
            "set net:max-retries 1",
            "set net:timeout 30",
            *self._security(),
            f"open -u {login.user},{login.password} -p {login.port} {login.host}",
            *commands,
        ]
        return self._run("lftp", "--norc", script="\n".join(script) + "\n")

    def _security(self) -> tuple[str, ...]:
        if not self.login.tls:
            return ("set ftp:ssl-allow false",)
        return (
            "set ftp:ssl-force true",
            "set ftp:ssl-protect-data true",
            "set ftp:ssl-protect-list true",
            f"set ssl:ca-file {word(self.login.tls.authority)}",
        )


def word(text: str | Path) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
