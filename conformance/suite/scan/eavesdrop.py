"""Whether anything can be heard on the gateway's sockets that `tls.require` forbids.

Clients try everything (`rude.py`), with things in it that can be told in a capture.
"""

import ftplib
import re
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path

from suite.certificate import Certificate
from suite.clients.base import Client, Login
from suite.clients.curl import Curl, CurlImplicit, CurlTls12
from suite.clients.lftp import Lftp
from suite.clients.python import PythonFtplib
from suite.gateway import HOST, PASSIVE_PORTS, Gateway, binary, free_port
from suite.scan.base import ACTIVE, Outcome, ScanError
from suite.scan.capture import Capture, Stream, not_tls
from suite.scan.rude import PROTECTIONS, TRANSFERS, WAITS, Rude


@dataclass(frozen=True)
class Secrets:
    """What nobody may hear."""

    password: bytes
    stored: bytes = field(default_factory=lambda: secrets.token_hex(16).encode())
    uploaded: bytes = field(default_factory=lambda: secrets.token_hex(16).encode())
    name: bytes = field(default_factory=lambda: secrets.token_hex(16).encode())

    def items(self) -> dict[str, bytes]:
        return {"the password": self.password, "the content of a file in the store": self.stored,
                "the content of an upload": self.uploaded, "the name of a file": self.name}


@dataclass
class Heard:
    """What was tried, and what could be heard of it."""

    attempts: int
    taken: int
    in_clear: dict[str, str]
    """Of the secrets: around them."""
    unframed: list[str]
    """What the gateway has sent that is no TLS, where it should be."""


def all_in_clear(home: Path) -> Outcome:
    """Whether this would notice: where nothing is required, all of it can be heard."""
    heard = listen("none", home)
    findings = unheard(heard, set())
    if heard.taken < (passive := 2 * len(PROTECTIONS) * len(TRANSFERS)):
        findings.append(f"only {heard.taken} of {passive} transfers in clear have begun")
    return Outcome(heard.attempts, findings)


def password_hidden(home: Path) -> Outcome:
    """The password can't be heard, all the rest can."""
    heard = listen("control", home)
    missed = unheard(heard, {"the password"})
    return Outcome(heard.attempts, missed + leaks(heard, {"the password"}))


def all_hidden(home: Path) -> Outcome:
    """Nothing can be heard, and whatever comes from ports for data is TLS."""
    heard = listen("all", home)
    findings = leaks(heard, set(heard.in_clear)) + heard.unframed
    if heard.taken:
        findings.append(f"{heard.taken} transfers in clear were not refused")
    return Outcome(heard.attempts, findings)


def leaks(heard: Heard, hidden: set[str]) -> list[str]:
    return [f"{what} can be heard: {around}"
            for what, around in heard.in_clear.items() if what in hidden]


def unheard(heard: Heard, hidden: set[str]) -> list[str]:
    everything = Secrets(b"").items().keys() - hidden
    return [f"{what} should be heard here, and is not"
            for what in sorted(everything - heard.in_clear.keys())]


def listen(require: str, home: Path) -> Heard:
    """Starts a gateway, lets all clients try, and listens."""
    bucket = home / "bucket"
    bucket.mkdir(parents=True)
    certificate = Certificate.make(home / "certificate")
    gateway = Gateway(binary(), bucket.as_uri(), certificate.settings(require) | ACTIVE,
                      home / "gateway.log", certificate.authority)
    hidden = Secrets(gateway.login.password.encode())
    (bucket / "old.bin").write_bytes(hidden.stored * 4096)
    (bucket / hidden.name.decode()).write_bytes(b"")
    active_port = free_port()
    gateway.start()
    try:
        with Capture(ports(gateway, active_port), home) as capture:
            rude = Rude(gateway.login, hidden.uploaded * 4096, active_port)
            rude.try_everything()
            try_drivers(gateway.login, hidden, bucket, home, in_clear=require == "none")
            end_of_capture(gateway.login, capture)
    finally:
        gateway.stop()
    if require == "all" and (kept := {file.name for file in bucket.iterdir()}
                             - {".bucketferry", "old.bin", "polite.bin", hidden.name.decode()}):
        raise ScanError(f"uploads in clear were stored: {sorted(kept)}")
    return judge(capture.streams(), gateway, hidden, rude)


def ports(gateway: Gateway, active_port: int) -> str:
    """What clients connect to. On other addresses of loopback the gateway talks to itself, see
    docs/architecture.md, on whatever port is free: perhaps of the same number."""
    first = gateway.first_passive_port
    login = gateway.login
    return (f"tcp and src host {HOST} and dst host {HOST} and (port {login.port} or "
            f"port {login.tls.implicit_port} or port {active_port} or "
            f"portrange {first}-{first + PASSIVE_PORTS - 1})")


def try_drivers(login: Login, hidden: Secrets, bucket: Path, home: Path, in_clear: bool) -> None:
    """Clients as they are, which must be able to do everything: and that must not be heard."""
    kinds: list[type[Client]] = [Curl, CurlTls12, CurlImplicit, Lftp, PythonFtplib]
    if in_clear:
        kinds, login = [Curl, Lftp, PythonFtplib], replace(login, tls=None)
    local, fetched = home / "local.bin", home / "fetched.bin"
    local.write_bytes(hidden.uploaded * 4096)
    for kind in kinds:
        client = kind(login, home)
        client.upload(local, "/polite.bin")
        if (bucket / "polite.bin").read_bytes() != local.read_bytes():
            raise ScanError(f"{kind.name}: the upload is not in the store")
        (bucket / "polite.bin").unlink()
        client.download("/old.bin", fetched)
        if fetched.read_bytes() != hidden.stored * 4096:
            raise ScanError(f"{kind.name}: the download is not what is in the store")
        fetched.unlink()
        if hidden.name.decode() not in client.list("/"):
            raise ScanError(f"{kind.name}: the listing lacks a file")


def end_of_capture(login: Login, capture: Capture) -> None:
    """Once this is heard, all that came before is."""
    last = secrets.token_hex(16)
    with ftplib.FTP(timeout=WAITS) as ftp:
        ftp.connect(login.host, login.port)
        ftp.putcmd(f"NOOP {last}")
        ftp.getmultiline()
        capture.wait_until_heard(last.encode())


def judge(streams: list[Stream], gateway: Gateway, hidden: Secrets, rude: Rude) -> Heard:
    heard = Heard(rude.attempts, rude.taken, {}, [])
    for stream in streams:
        for what, secret in hidden.items().items():
            if (at := stream.data.find(secret)) >= 0:
                around = bytes(stream.data[max(at - 40, 0):at + 80])
                heard.in_clear[what] = f"port {stream.source} to {stream.destination}: {around!r}"
        if part := what_is_not_tls(stream, gateway):
            heard.unframed.append(
                f"no TLS from port {stream.source}: {bytes(part[:80])!r} ({len(part)} bytes)")
    if not any(stream.data for stream in streams):
        raise ScanError("nothing was captured")
    return heard


def what_is_not_tls(stream: Stream, gateway: Gateway) -> bytes:
    """Of what the gateway sends: all of it but for the replies before AUTH TLS."""
    first = gateway.first_passive_port
    port = stream.source
    if port == gateway.login.tls.implicit_port or port in range(first, first + PASSIVE_PORTS):
        return not_tls(bytes(stream.data))
    if port == gateway.login.port:
        begun = re.search(rb"^234 [^\n]*\n", stream.data, re.MULTILINE)
        return not_tls(bytes(stream.data[begun.end():])) if begun else b""
    return b""
