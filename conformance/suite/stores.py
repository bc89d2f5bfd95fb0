"""Where the bytes must be, looked at without the gateway: what a store is, and a folder.

A path is as an FTP client says it, from `/`. Each store knows under which key or file that is.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar


class StoreError(Exception):
    """The store itself could not be had."""


class Store(ABC):
    """What the cases ask of a store."""

    url: str
    """As `--store` takes it."""
    settings: dict[str, str]
    """What the gateway's environment must say for it."""

    odd_keys: tuple[str, ...] = ("/empty segment", "deep//file")
    """What a store can hold in a directory and no FTP path can say."""
    cannot: ClassVar[dict[str, str]] = {}
    """Cases that the store can't be laid out for, each with the reason."""
    renames: ClassVar[bool] = True
    """Whether what serves it can rename."""
    keeps_gateways_apart: ClassVar[bool] = True
    """Whether it looks at all conditions: where `check` says `no` to one, only one gateway keeps its clients apart."""

    why_no_histories: ClassVar[str] = ""
    """Why no order of what clients do would explain what they see on it; empty where one has to."""

    @abstractmethod
    def put(self, path: str, data: bytes) -> None:
        """Lays a file down."""

    @abstractmethod
    def get(self, path: str) -> bytes | None:
        """A file's bytes, or None if there is none of that name."""

    @abstractmethod
    def keys(self, directory: str) -> set[str]:
        """All files under a directory at any depth, relative to it; made directories with a `/`."""


class FileStore(Store):
    """A folder, served as `/`."""

    odd_keys = ("bell\a",)

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.url = self.root.as_uri()
        self.settings = {}

    def put(self, path: str, data: bytes) -> None:
        file = self._file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def get(self, path: str) -> bytes | None:
        file = self._file(path)
        return file.read_bytes() if file.is_file() else None

    def keys(self, directory: str) -> set[str]:
        top = self._file(directory)
        return {self._key(entry, top) for entry in top.rglob("*")
                if not entry.is_dir() or not any(entry.iterdir())}

    def _file(self, path: str) -> Path:
        return self.root / path.strip("/")

    @staticmethod
    def _key(entry: Path, top: Path) -> str:
        return str(entry.relative_to(top)) + ("/" if entry.is_dir() else "")


def is_marker_of_full(key: str, keys: set[str]) -> bool:
    """Whether a key only marks a directory that other keys prove anyway."""
    return key.endswith("/") and any(other.startswith(key) and other != key for other in keys)
