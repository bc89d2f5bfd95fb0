"""A client that wants everything in clear, and takes what it gets.

But it says no secret unless the gateway has asked for it: the password after 331, data after 150.
"""

import contextlib
import ftplib
import re
import socket
import ssl
from collections.abc import Callable, Iterator

from suite.clients.base import Login
from suite.gateway import HOST

OPENINGS = ("PASV", "EPSV", "PORT", "EPRT")
TRANSFERS = ("LIST", "NLST", "MLSD", "RETR old.bin", "STOR new.bin", "APPE new.bin", "STOU")
UPLOADS = ("STOR", "APPE", "STOU")
TALK = ("STAT /", "MLST old.bin", "SIZE old.bin", "PWD", "CCC", "REIN")

PROTECTIONS: dict[str, tuple[str, ...]] = {
    "in clear": (),
    "in clear, with PROT P": ("PBSZ 0", "PROT P"),
    "no PROT": ("AUTH TLS",),
    "PBSZ alone": ("AUTH TLS", "PBSZ 0"),
    "PROT C": ("AUTH TLS", "PBSZ 0", "PROT C"),
    "CCC": ("AUTH TLS", "PBSZ 0", "PROT C", "CCC"),
}
"""What a client says first that wants no encrypted data."""

WAITS = 5.0


class Rude:
    """It tries each kind of transfer, opened in each way, with each kind of half-hearted TLS."""

    def __init__(self, login: Login, upload: bytes, active_port: int) -> None:
        self.login = login
        self.upload = upload
        self.listener = socket.create_server((HOST, active_port))
        self.listener.settimeout(WAITS)
        self.attempts = 0
        self.taken = 0

    def try_everything(self) -> None:
        with self.listener:
            for first in PROTECTIONS.values():
                for opening in OPENINGS:
                    self.try_transfers(first, opening)
            for command in TRANSFERS:
                self.try_clear_data_after_prot_p(command)
                self.try_clear_data_after_prot_p(command, "PROT C")
            self.try_implicit_in_clear()

    def try_transfers(self, first: tuple[str, ...], opening: str) -> None:
        with self.session(*first) as ftp:
            for command in TRANSFERS:
                with self.data_connection(ftp, opening) as data:
                    self.transfer(ftp, command, data)
            for line in TALK:
                self.say(ftp, line)

    def try_clear_data_after_prot_p(self, command: str, *more: str) -> None:
        """No handshake follows. What it sends itself is no secret, and must not be stored."""
        with (self.session("AUTH TLS", "PBSZ 0", "PROT P", *more) as ftp,
              self.data_connection(ftp, "PASV") as data):
            if self.say(ftp, command).startswith("150"):
                with contextlib.suppress(OSError):
                    data().sendall(b"in clear, though everybody has agreed on TLS")
                    data().shutdown(socket.SHUT_WR)
                    drain(data())
                self.attempts += 1
                if ftp.getmultiline().startswith("2"):
                    self.taken += 1

    def try_implicit_in_clear(self) -> None:
        with (socket.create_connection((self.login.host, self.login.tls.implicit_port), WAITS)
              as connection, contextlib.suppress(OSError)):
            connection.sendall(f"USER {self.login.user}\r\n".encode())
            drain(connection)
        self.attempts += 1

    @contextlib.contextmanager
    def session(self, *first: str) -> Iterator[ftplib.FTP_TLS]:
        """Logged in, where that can be had; the password is only said if it is asked for."""
        with ftplib.FTP_TLS(context=self.context(), timeout=WAITS) as ftp:
            ftp.connect(self.login.host, self.login.port)
            for line in first:
                if line == "AUTH TLS":
                    ftp.auth()
                    self.log_in(ftp)
                else:
                    self.say(ftp, line)
            if "AUTH TLS" not in first:
                self.log_in(ftp)
            self.say(ftp, "TYPE I")
            yield ftp

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.login.tls.authority))

    def log_in(self, ftp: ftplib.FTP_TLS) -> None:
        if self.say(ftp, f"USER {self.login.user}").startswith("331"):
            self.say(ftp, f"PASS {self.login.password}")

    def transfer(self, ftp: ftplib.FTP_TLS, command: str,
                 data: Callable[[], socket.socket]) -> None:
        self.attempts += 1
        if not self.say(ftp, command).startswith("1"):
            return
        self.taken += 1
        with contextlib.suppress(OSError):
            if command.startswith(UPLOADS):
                data().sendall(self.upload)
                data().close()
            else:
                drain(data())
        ftp.getmultiline()

    @contextlib.contextmanager
    def data_connection(self, ftp: ftplib.FTP_TLS,
                        opening: str) -> Iterator[Callable[[], socket.socket]]:
        """Gives what gives the socket: an active one is there only once a transfer has begun."""
        with contextlib.ExitStack() as open_sockets:
            if opening in ("PASV", "EPSV"):
                passive = self.connect(self.say(ftp, opening))
                sockets = [open_sockets.enter_context(passive)] if passive else []
            else:
                port = self.listener.getsockname()[1]
                address = f"{HOST.replace('.', ',')},{port >> 8},{port & 255}"
                extended = f"EPRT |1|{HOST}|{port}|"
                self.say(ftp, f"PORT {address}" if opening == "PORT" else extended)
                sockets = []

            def give() -> socket.socket:
                if not sockets:
                    sockets.append(open_sockets.enter_context(self.listener.accept()[0]))
                return sockets[0]
            yield give

    def connect(self, reply: str) -> socket.socket | None:
        """To where 227 or 229 says."""
        if match := re.search(r"\((?:\d+,){4}(\d+),(\d+)\)", reply):
            port = int(match[1]) << 8 | int(match[2])
        elif match := re.search(r"\(\|\|\|(\d+)\|\)", reply):
            port = int(match[1])
        else:
            return None
        return socket.create_connection((self.login.host, port), timeout=WAITS)

    @staticmethod
    def say(ftp: ftplib.FTP_TLS, line: str) -> str:
        ftp.putcmd(line)
        return ftp.getmultiline()


def drain(data: socket.socket) -> None:
    while data.recv(65536):
        pass
