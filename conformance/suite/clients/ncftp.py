"""NcFTP: ncftpput, ncftpget and ncftpls for scripts, and ncftp itself for the rest."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from suite.clients.base import Client, ClientError, names_of_long_listing, split, transcript

COMPLAINT = re.compile(r"server said:|^Usage:|^Error:|no match\.", re.MULTILINE)


class Ncftp(Client):
    name = "ncftp"
    programs = ("ncftpput", "ncftpget", "ncftpls", "ncftp")
    install = "apt-get install ncftp"
    left_out: ClassVar[dict[str, str]] = dict.fromkeys(
        ("tls", "tls-reuse"), "this version knows no TLS")
    cannot: ClassVar[dict[str, str]] = {
        "mkdir-existing": "it is content with a directory that exists"}

    def version(self) -> str:
        return self._missing() or self._ncftp("version").splitlines()[0].split(" (")[0]

    def upload(self, local: Path, remote: str) -> None:
        self._put(local, remote)

    def append(self, local: Path, remote: str) -> None:
        self._put(local, remote, "-A")

    def resume_upload(self, local: Path, remote: str) -> None:
        """By ncftp itself: ncftpput -z (3.2.6) sends REST, and then the whole file by sendfile from
        its first byte on, which no server can make right."""
        directory, name = split(remote)
        self._ncftp("set auto-resume yes", f"cd {word(directory)}",
                    f"put -z {word(str(local))} {word(name)}")

    def download(self, remote: str, local: Path) -> None:
        self._get(remote, local, "-Z")

    def resume_download(self, remote: str, local: Path) -> None:
        self._get(remote, local, "-z")

    def list(self, directory: str) -> set[str]:
        return names_of_long_listing(self._ls(directory, "-l"))

    def list_with_flags(self, directory: str) -> set[str]:
        """`ncftpls -1` sends `NLST -1`."""
        return set(self._ls(directory, "-1").splitlines())

    def rename(self, old: str, new: str) -> None:
        self._ncftp(f"rename {word(old)} {word(new)}")

    def delete(self, remote: str) -> None:
        directory, name = split(remote)
        self._ncftp(f"cd {word(directory)}", f"rm -- {word(name)}")

    def mkdir(self, directory: str) -> None:
        self._ncftp(f"mkdir {word(directory)}")

    def rmdir(self, directory: str) -> None:
        self._ncftp(f"rmdir {word(directory)}")

    def _put(self, local: Path, remote: str, *flags: str) -> None:
        """The usual form gives the remote file the name of the local one."""
        directory, name = split(remote)
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            named = Path(folder, name)
            shutil.copy2(local, named)
            self._run("ncftpput", *self._login(), *flags, self.login.host, directory, str(named))

    def _get(self, remote: str, local: Path, *flags: str) -> None:
        """-C, because the usual form takes the remote name for a pattern, brackets and all."""
        self._run("ncftpget", *self._login(), *flags, "-C", self.login.host, remote, str(local))

    def _ls(self, directory: str, *flags: str) -> str:
        url = f"ftp://{self.login.host}{quote(directory)}/"
        return self._run("ncftpls", *self._login(), *flags, url)

    def _ncftp(self, *commands: str) -> str:
        command = ("ncftp", *self._login(), self.login.host)
        script = "\n".join(["set confirm-close no", *commands, "quit"]) + "\n"
        said = self._run(*command, script=script, with_stderr=True)
        if COMPLAINT.search(said):
            raise ClientError(transcript(command, script, "a command failed", said))
        return said

    def _login(self) -> tuple[str, ...]:
        return ("-u", self.login.user, "-p", self.login.password, "-P", str(self.login.port))


def word(text: str) -> str:
    """In double quotes, where brackets are no pattern; a double quote itself by a backslash outside
    of them."""
    return '"' + text.replace('"', '"\\""') + '"'
