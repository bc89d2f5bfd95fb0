"""One driver per client: an upload that goes on for as long as its source does, to be killed half-way."""

import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from suite.clients.base import Login

PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True)
class Upload:
    """What is sent: `content`, of which only `cut` bytes come before the client is harmed."""

    remote: str
    content: bytes
    cut: int


class Sender(ABC):
    """A client that uploads what comes on its standard input, or a file at a pace of its own."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    paced: ClassVar[bool] = False
    """It takes no pipe, and sends a file at its own pace instead."""
    throws: ClassVar[bool] = False
    """Its program raises an exception of its own; others are given a read that fails."""

    def __init__(self, tools: Path) -> None:
        self.tools = tools

    @abstractmethod
    def command(self, login: Login, upload: Upload, file: Path) -> list[str]: ...

    def script(self, login: Login, upload: Upload, file: Path) -> str:
        """What is typed on standard input, of a client that takes commands there."""
        return ""

    @classmethod
    def missing(cls) -> list[str]:
        return [program for program in cls.programs if not shutil.which(program)]


class Curl(Sender):
    name = "curl"
    programs = ("curl",)

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        return ["curl", "--silent", "--user", f"{login.user}:{login.password}", "--upload-file", "-",
                f"ftp://{login.host}:{login.port}/{upload.remote}"]


class Lftp(Sender):
    name = "lftp"
    programs = ("lftp",)
    paced = True

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        script = [
            "set cmd:fail-exit true", "set net:max-retries 1", "set ftp:ssl-allow false",
            f"set net:limit-rate 0:{pace(upload)}", f"set net:limit-max {pace(upload) // 4}",
            f"open -u {login.user},{login.password} -p {login.port} {login.host}",
            f"put {file} -o {upload.remote}",
        ]
        return ["lftp", "--norc", "-c", "; ".join(script)]


class Tnftp(Sender):
    name = "tnftp"
    programs = ("tnftp",)
    paced = True

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        return ["tnftp", "-n", "-i", "-g", login.host, str(login.port)]

    def script(self, login: Login, upload: Upload, file: Path) -> str:
        return "\n".join([f"user {login.user} {login.password}", "binary", f"rate put {pace(upload)}",
                          f"put {file} {upload.remote}", "quit", ""])


class Ncftp(Sender):
    name = "ncftp"
    programs = ("ncftpput",)

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        return ["ncftpput", "-V", "-u", login.user, "-p", login.password, "-P", str(login.port), "-c",
                login.host, upload.remote]


class PythonFtplib(Sender):
    name = "ftplib"
    programs = ("python3",)
    throws = True

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        return ["python3", str(PROGRAMS / "upload.py"), *words(login, upload)]


class Php(Sender):
    name = "php"
    programs = ("php",)
    throws = True

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        return ["php", str(PROGRAMS / "upload.php"), *words(login, upload)]


class Java(Sender):
    name = "java"
    programs = ("java", "javac")
    throws = True

    def __init__(self, tools: Path) -> None:
        super().__init__(tools)
        subprocess.run(["javac", "-d", str(tools), str(PROGRAMS / "Upload.java")], check=True)

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-cp",
                str(self.tools), "Upload", *words(login, upload)]


class Busybox(Sender):
    name = "busybox"
    programs = ("busybox",)

    def command(self, login: Login, upload: Upload, file: Path) -> list[str]:
        return ["busybox", "ftpput", "-u", login.user, "-p", login.password, "-P", str(login.port),
                login.host, upload.remote, "-"]


SENDERS: list[type[Sender]] = [Curl, Lftp, Tnftp, Ncftp, PythonFtplib, Php, Java, Busybox]


def words(login: Login, upload: Upload) -> list[str]:
    return [login.host, str(login.port), login.user, login.password, upload.remote]


def pace(upload: Upload) -> int:
    """Bytes a second: all of it takes one to four seconds."""
    return upload.cut
