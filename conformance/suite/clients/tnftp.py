"""tnftp, the `ftp` of the BSDs and macOS: its command line, scripted on standard input.

It exits with 0 whatever happened, so its transcript says whether a command failed.
"""

import re
from pathlib import Path
from typing import ClassVar

from suite.clients.base import Client, ClientError, names_of_long_listing, split, transcript

REFUSAL = re.compile(r"^[45]\d\d[ -]", re.MULTILINE)
COMPLAINT = re.compile(r"^(usage:|\?|Not connected|tnftp: )", re.MULTILINE)
FACTS = re.compile(r"^(?P<facts>[\w.-]+=[^;]*;\S*) (?P<name>.+)$")


class Tnftp(Client):
    name = "tnftp"
    programs = ("tnftp",)
    install = "apt-get install tnftp"
    left_out: ClassVar[dict[str, str]] = dict.fromkeys(
        ("tls", "tls-reuse"), "it knows TLS for https only")

    def version(self) -> str:
        if missing := self._missing():
            return missing
        return self._run("tnftp", "about:version").splitlines()[0].removeprefix("Version: ")

    def upload(self, local: Path, remote: str) -> None:
        directory, name = split(remote)
        self._tnftp(f"cd {word(directory)}", f"put {word(local)} {word(name)}")

    def append(self, local: Path, remote: str) -> None:
        directory, name = split(remote)
        self._tnftp(f"cd {word(directory)}", f"append {word(local)} {word(name)}")

    def resume_upload(self, local: Path, remote: str) -> None:
        """Its `restart` wants a number, which `size` tells."""
        sizes = re.findall(r"\t(\d+)$", self._tnftp(f"size {word(remote)}"), re.MULTILINE)
        self._tnftp(f"restart {sizes[0]}", f"put {word(local)} {word(remote)}")

    def download(self, remote: str, local: Path) -> None:
        directory, name = split(remote)
        self._tnftp(f"cd {word(directory)}", f"get {word(name)} {word(local)}")

    def resume_download(self, remote: str, local: Path) -> None:
        directory, name = split(remote)
        self._tnftp(f"cd {word(directory)}", f"reget {word(name)} {word(local)}")

    def list(self, directory: str) -> set[str]:
        lines = self._tnftp(f"cd {word(directory)}", "mlsd").splitlines()
        entries = [match for line in lines if (match := FACTS.match(line))]
        return {entry["name"] for entry in entries
                if not re.search("type=[cp]dir;", entry["facts"], re.IGNORECASE)}

    def list_with_flags(self, directory: str) -> set[str]:
        return names_of_long_listing(self._tnftp(f"cd {word(directory)}", "ls -la"))

    def rename(self, old: str, new: str) -> None:
        self._tnftp(f"rename {word(old)} {word(new)}")

    def delete(self, remote: str) -> None:
        directory, name = split(remote)
        self._tnftp(f"cd {word(directory)}", f"delete {word(name)}")

    def mkdir(self, directory: str) -> None:
        self._tnftp(f"mkdir {word(directory)}")

    def rmdir(self, directory: str) -> None:
        self._tnftp(f"rmdir {word(directory)}")

    def _tnftp(self, *commands: str) -> str:
        """-n: no login from .netrc, -i: no questions, -g: no patterns, -v: show the replies."""
        login = self.login
        command = ("tnftp", "-n", "-i", "-g", "-v", login.host, str(login.port))
        lines = [f"user {login.user} {login.password}", "binary", *commands, "quit"]
        script = "\n".join(lines) + "\n"
        said = self._run(*command, script=script, with_stderr=True)
        if REFUSAL.search(said) or COMPLAINT.search(said):
            raise ClientError(transcript(command, script, "a command failed", said))
        return said


def word(text: str | Path) -> str:
    """Inside its double quotes a backslash means itself, outside of them it takes any character."""
    return re.sub(r"([^\w/.-])", r"\\\1", str(text))
