"""Python's ftplib, as scripts use it."""

import ftplib
import platform
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from suite.clients.base import (
    TIMEOUT, Client, ClientError, Login, names_of_long_listing, split,
)


class Resuming(ftplib.FTP_TLS):
    """As scripts do it where data connections have to resume the control connection's session."""

    def ntransfercmd(self, cmd: str, rest: int | None = None) -> tuple[ssl.SSLSocket, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        secured = self.context.wrap_socket(
            connection, server_hostname=self.host, session=self.sock.session)
        return secured, size


def connect(login: Login, with_tls: type[ftplib.FTP_TLS]) -> ftplib.FTP:
    """A session, by TLS if the server has it."""
    if login.tls:
        context = ssl.create_default_context(cafile=str(login.tls.authority))
        ftp = with_tls(context=context, timeout=TIMEOUT)
    else:
        ftp = ftplib.FTP(timeout=TIMEOUT)
    ftp.connect(login.host, login.port)
    ftp.login(login.user, login.password)
    if login.tls:
        ftp.prot_p()
    return ftp


class PythonFtplib(Client):
    name = "ftplib"
    left_out: ClassVar[dict[str, str]] = {"tls-reuse": "it never resumes a session by itself"}
    with_tls: ClassVar[type[ftplib.FTP_TLS]] = ftplib.FTP_TLS

    def version(self) -> str:
        return f"ftplib of Python {platform.python_version()}"

    def upload(self, local: Path, remote: str) -> None:
        self._store("STOR", local, remote)

    def append(self, local: Path, remote: str) -> None:
        self._store("APPE", local, remote)

    def resume_upload(self, local: Path, remote: str) -> None:
        with self._at(remote) as (ftp, name), local.open("rb") as file:
            ftp.voidcmd("TYPE I")
            size = ftp.size(name)
            file.seek(size)
            ftp.storbinary(f"STOR {name}", file, rest=size)

    def download(self, remote: str, local: Path) -> None:
        with self._at(remote) as (ftp, name), local.open("wb") as file:
            ftp.retrbinary(f"RETR {name}", file.write)

    def resume_download(self, remote: str, local: Path) -> None:
        with self._at(remote) as (ftp, name), local.open("ab") as file:
            ftp.retrbinary(f"RETR {name}", file.write, rest=file.tell())

    def list(self, directory: str) -> set[str]:
        """By MLSD and by NLST, which must agree."""
        with self._session() as ftp:
            ftp.cwd(directory)
            entries = [name for name, facts in ftp.mlsd() if facts["type"] not in ("cdir", "pdir")]
            names = ftp.nlst()
        if sorted(names) != sorted(entries):
            raise ClientError(f"NLST: {sorted(names)}, MLSD: {sorted(entries)}")
        return set(names)

    def list_with_flags(self, directory: str) -> set[str]:
        lines: list[str] = []
        with self._session() as ftp:
            ftp.cwd(directory)
            ftp.dir("-la", lines.append)
        return names_of_long_listing("\n".join(lines))

    def rename(self, old: str, new: str) -> None:
        with self._session() as ftp:
            ftp.rename(old, new)

    def delete(self, remote: str) -> None:
        with self._at(remote) as (ftp, name):
            ftp.delete(name)

    def mkdir(self, directory: str) -> None:
        with self._session() as ftp:
            made = ftp.mkd(directory)
        if made != directory:
            raise ClientError(f"the reply to MKD names {made!r}")

    def rmdir(self, directory: str) -> None:
        with self._session() as ftp:
            ftp.rmd(directory)

    def _store(self, verb: str, local: Path, remote: str) -> None:
        with self._at(remote) as (ftp, name), local.open("rb") as file:
            ftp.storbinary(f"{verb} {name}", file)

    @contextmanager
    def _at(self, remote: str) -> Iterator[tuple[ftplib.FTP, str]]:
        """A session in the directory of `remote`, and the name in it."""
        directory, name = split(remote)
        with self._session() as ftp:
            ftp.cwd(directory)
            if (answered := ftp.pwd()) != directory:
                raise ClientError(f"PWD after CWD {directory} says {answered}")
            yield ftp, name

    @contextmanager
    def _session(self) -> Iterator[ftplib.FTP]:
        try:
            with connect(self.login, self.with_tls) as ftp:
                yield ftp
        except ftplib.all_errors as error:
            raise ClientError(f"{type(error).__name__}: {error}") from error


class PythonResuming(PythonFtplib):
    """The same with a few lines of one's own."""

    name = "ftplib-reuse"
    left_out: ClassVar[dict[str, str]] = {}
    only_in: ClassVar[tuple[str, ...]] = ("tls-reuse",)
    with_tls = Resuming
