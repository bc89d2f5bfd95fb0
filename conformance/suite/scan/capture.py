"""What crosses loopback, as tcpdump hears it, put together to streams."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from suite.scan.base import MissedError, ScanError

WITHIN = 20.0

PCAP = b"\xd4\xc3\xb2\xa1"
ETHERNET = 1
ETHERNET_HEADER = 14
IPV4 = b"\x08\x00"
SYN = 2

CONTENT_TYPES = range(20, 24)
"""Of TLS records: change_cipher_spec, alert, handshake, application_data."""
LONGEST_RECORD = 16384 + 2048


@dataclass
class Stream:
    """One connection's bytes in one direction."""

    source: int
    destination: int
    first: int
    """The sequence number of its first byte."""
    data: bytearray = field(default_factory=bytearray)
    ahead: dict[int, bytes] = field(default_factory=dict)
    """Payloads that the kernel has shown before those that they follow: two processors send, and
    each hands over what it has sent."""

    def add(self, sequence: int, payload: bytes) -> None:
        at = (sequence - self.first) % 2**32
        if at > len(self.data):
            self.ahead[at] = payload
            return
        self.data[at:at + len(payload)] = payload
        for later in sorted(self.ahead):
            if later > len(self.data):
                break
            payload = self.ahead.pop(later)
            self.data[later:later + len(payload)] = payload

    def expect_whole(self) -> None:
        if self.ahead:
            raise MissedError(f"tcpdump has missed bytes from {self.source} to {self.destination}: "
                              f"{len(self.data)} are there, others from {min(self.ahead)} on")


class Capture:
    """tcpdump, as long as it is entered. Only root can listen."""

    def __init__(self, condition: str, home: Path) -> None:
        self.command = ["tcpdump", "-i", "lo", "-n", "--immediate-mode", "-U", "-B", "65536",
                        "-w", "-", condition]
        self.file = home / "loopback.pcap"
        self.said: list[str] = []

    def __enter__(self) -> "Capture":
        try:
            with self.file.open("wb") as file:
                self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                                stdout=file, stderr=subprocess.PIPE, text=True)
        except FileNotFoundError:
            raise ScanError("tcpdump is not installed (apt-get install tcpdump)") from None
        self.reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self.reader.start()
        try:
            self._wait_for(
                "begun to listen", lambda: any("listening on" in line for line in self.said))
        except ScanError:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        if not any(line.startswith("0 packets dropped by kernel") for line in self.said):
            raise MissedError(f"tcpdump has missed packets: {self.said}")

    def wait_until_heard(self, last: bytes) -> None:
        self._wait_for(f"heard {last!r}", lambda: last in self.file.read_bytes())

    def streams(self) -> list[Stream]:
        return read_streams(self.file.read_bytes())

    def _end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.reader.join()

    def _wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not is_so():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ScanError(f"tcpdump has not {what} (it needs root): {self.said}")
            time.sleep(0.05)


def read_streams(capture: bytes) -> list[Stream]:
    """Of a pcap file: TCP over IPv4, each connection from its SYN on."""
    if capture[:4] != PCAP or int.from_bytes(capture[20:24], "little") != ETHERNET:
        raise ScanError("tcpdump writes something else than the pcap that is expected here")
    done: list[Stream] = []
    current: dict[tuple[int, int], Stream] = {}
    for frame in frames(capture):
        add_segment(frame, current, done)
    for stream in done:
        stream.expect_whole()
    return done


def frames(capture: bytes) -> Iterator[bytes]:
    at = 24
    while at + 16 <= len(capture):
        kept = int.from_bytes(capture[at + 8:at + 12], "little")
        if kept != int.from_bytes(capture[at + 12:at + 16], "little"):
            raise ScanError("tcpdump has cut a packet short")
        yield capture[at + 16:at + 16 + kept]
        at += 16 + kept


def add_segment(frame: bytes, current: dict[tuple[int, int], Stream], done: list[Stream]) -> None:
    if frame[12:14] != IPV4:
        raise ScanError("not IPv4")
    packet = frame[ETHERNET_HEADER:]
    packet = packet[:int.from_bytes(packet[2:4]) or len(packet)]
    segment = packet[4 * (packet[0] & 15):]
    source, destination = int.from_bytes(segment[:2]), int.from_bytes(segment[2:4])
    sequence, payload = int.from_bytes(segment[4:8]), segment[4 * (segment[12] >> 4):]
    if segment[13] & SYN:
        current[source, destination] = Stream(source, destination, (sequence + 1) % 2**32)
        done.append(current[source, destination])
    elif payload:
        if (source, destination) not in current:
            raise MissedError("tcpdump has missed a SYN")
        current[source, destination].add(sequence, payload)


def not_tls(data: bytes) -> bytes:
    """What is left from where it is no TLS record any more; the last one may be cut off."""
    at = 0
    while at < len(data):
        kind, version, length = data[at], data[at + 1:at + 2], int.from_bytes(data[at + 3:at + 5])
        if kind not in CONTENT_TYPES or version not in (b"\x03", b"") or length > LONGEST_RECORD:
            return data[at:]
        at += 5 + length
    return b""
