"""curl: one URL per transfer, everything else by `--quote`."""

from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from suite.clients.base import Client, names_of_long_listing, split


class Curl(Client):
    name = "curl"
    programs = ("curl",)
    install = "apt-get install curl"

    def version(self) -> str:
        return self._missing() or self._run("curl", "--version").split(" (")[0]

    def upload(self, local: Path, remote: str) -> None:
        self._curl("--upload-file", str(local), self._url(remote))

    def append(self, local: Path, remote: str) -> None:
        self._curl("--append", "--upload-file", str(local), self._url(remote))

    def resume_upload(self, local: Path, remote: str) -> None:
        self._curl("--continue-at", "-", "--upload-file", str(local), self._url(remote))

    def download(self, remote: str, local: Path) -> None:
        self._curl("--output", str(local), self._url(remote))

    def resume_download(self, remote: str, local: Path) -> None:
        self._curl("--continue-at", "-", "--output", str(local), self._url(remote))

    def list(self, directory: str) -> set[str]:
        return set(self._curl("--list-only", self._url(directory + "/")).splitlines())

    def list_with_flags(self, directory: str) -> set[str]:
        return names_of_long_listing(
            self._curl("--request", "LIST -la", self._url(directory + "/")))

    def rename(self, old: str, new: str) -> None:
        self._quote(f"RNFR {old}", f"RNTO {new}")

    def delete(self, remote: str) -> None:
        directory, name = split(remote)
        self._quote(f"CWD {directory}", f"DELE {name}")

    def mkdir(self, directory: str) -> None:
        self._quote(f"MKD {directory}")

    def rmdir(self, directory: str) -> None:
        self._quote(f"RMD {directory}")

    def _quote(self, *commands: str) -> None:
        """With `--head`, a URL that ends in a slash transfers nothing after the commands."""
        quoted = [word for command in commands for word in ("--quote", command)]
        self._curl("--head", *quoted, self._url("/"))

    def _curl(self, *arguments: str) -> str:
        user = f"{self.login.user}:{self.login.password}"
        return self._run("curl", "--silent", "--show-error", "--user", user, *self._security(),
                         *arguments)

    def _security(self) -> tuple[str, ...]:
        """Said outright, so that neither side can fall back to less."""
        if not self.login.tls:
            return ()
        return ("--ssl-reqd", "--tlsv1.3", "--cacert", str(self.login.tls.authority))

    def _url(self, remote: str) -> str:
        return f"ftp://{self.login.host}:{self.login.port}{quote(remote)}"


class CurlTls12(Curl):
    name = "curl-1.2"
    only_in: ClassVar[tuple[str, ...]] = ("tls", "tls-reuse")

    def _security(self) -> tuple[str, ...]:
        return ("--ssl-reqd", "--tls-max", "1.2", "--cacert", str(self.login.tls.authority))


class CurlImplicit(Curl):
    name = "curl-ftps"
    only_in: ClassVar[tuple[str, ...]] = ("tls", "tls-reuse")

    def _url(self, remote: str) -> str:
        return f"ftps://{self.login.host}:{self.login.tls.implicit_port}{quote(remote)}"
