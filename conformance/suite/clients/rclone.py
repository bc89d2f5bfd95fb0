"""rclone's ftp remote, configured by environment alone."""

from pathlib import Path
from typing import ClassVar

from suite.clients.base import Client

NO_APPEND = "it replaces files whole; its ftp remote sends neither APPE nor REST before a STOR"


class Rclone(Client):
    name = "rclone"
    programs = ("rclone",)
    install = "go install github.com/rclone/rclone@latest"
    cannot: ClassVar[dict[str, str]] = dict.fromkeys(
        ("append", "append-to-large", "resume-upload", "resume-after-cut"), NO_APPEND
    ) | {"mkdir-existing": "it is content with a directory that exists"}

    left_out: ClassVar[dict[str, str]] = {
        "unftp-sbe-gcs": "it uploads under another name and renames; only with --inplace it does not",
    }

    def version(self) -> str:
        return self._missing() or self._run("rclone", "version").splitlines()[0]

    def upload(self, local: Path, remote: str) -> None:
        self._rclone("copyto", "--ignore-times", str(local), f":ftp:{remote}")

    def append(self, local: Path, remote: str) -> None:
        raise NotImplementedError(NO_APPEND)

    def resume_upload(self, local: Path, remote: str) -> None:
        raise NotImplementedError(NO_APPEND)

    def download(self, remote: str, local: Path) -> None:
        self._rclone("copyto", "--ignore-times", f":ftp:{remote}", str(local))

    def resume_download(self, remote: str, local: Path) -> None:
        """It never resumes a file by itself; `cat --offset` is how it asks for the rest of one."""
        rest = self.home / "rest"
        offset = str(local.stat().st_size)
        self._run("sh", "-c", 'rclone cat --offset "$1" "$2" > "$3"', "sh",
                  offset, f":ftp:{remote}", str(rest), environment=self._settings())
        with local.open("ab") as file:
            file.write(rest.read_bytes())

    def list(self, directory: str) -> set[str]:
        return self._names(self._rclone("lsf", f":ftp:{directory}"))

    def list_with_flags(self, directory: str) -> set[str]:
        return self._names(self._rclone("lsf", "--ftp-force-list-hidden", f":ftp:{directory}"))

    def rename(self, old: str, new: str) -> None:
        self._rclone("moveto", f":ftp:{old}", f":ftp:{new}")

    def delete(self, remote: str) -> None:
        self._rclone("deletefile", f":ftp:{remote}")

    def mkdir(self, directory: str) -> None:
        self._rclone("mkdir", f":ftp:{directory}")

    def rmdir(self, directory: str) -> None:
        self._rclone("rmdir", f":ftp:{directory}")

    @staticmethod
    def _names(listing: str) -> set[str]:
        return {line.rstrip("/") for line in listing.splitlines()}

    def _rclone(self, *arguments: str) -> str:
        return self._run("rclone", *arguments, environment=self._settings())

    def _settings(self) -> dict[str, str]:
        """No encoding: names travel as they are. No config file, and no second try."""
        return {
            "RCLONE_CONFIG": "",
            "RCLONE_RETRIES": "1",
            "RCLONE_LOW_LEVEL_RETRIES": "1",
            "RCLONE_FTP_HOST": self.login.host,
            "RCLONE_FTP_PORT": str(self.login.port),
            "RCLONE_FTP_USER": self.login.user,
            "RCLONE_FTP_PASS": self._run("rclone", "obscure", self.login.password).strip(),
            "RCLONE_FTP_ENCODING": "None",
        } | self._security()

    def _security(self) -> dict[str, str]:
        if not self.login.tls:
            return {}
        authority = str(self.login.tls.authority)
        return {"RCLONE_FTP_EXPLICIT_TLS": "true", "RCLONE_CA_CERT": authority}
