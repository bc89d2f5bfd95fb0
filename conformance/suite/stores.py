"""Where the bytes must be, looked at without the gateway: a folder, or an S3 server.

A path is as an FTP client says it, from `/`. Each store knows under which key or file that is.
"""

import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from xml.etree import ElementTree

from suite.gateway import HOST, free_port


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


class MotoStore(Store):
    """A bucket in moto's S3 server, asked by plain HTTP.

    It checks no signatures, but whoever sends none may not read.
    """

    CREDENTIAL = "Credential=conformance/20260101/us-east-1/s3/aws4_request"

    BUCKET = "conformance"
    PREFIX = "landing"
    STARTS_WITHIN = 60.0

    def __init__(self, log: Path) -> None:
        self.log = log
        self.endpoint = f"http://{HOST}:{free_port()}"
        self.url = f"s3://{self.BUCKET}/{self.PREFIX}"
        options = {
            "ENDPOINT": self.endpoint,
            "ACCESS_KEY_ID": "conformance",
            "SECRET_ACCESS_KEY": "conformance",
            "REGION": "us-east-1",
            "ALLOW_HTTP": "true",
            "VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }
        self.settings = {f"BUCKETFERRY_STORE__OPTIONS__AWS_{name}": value
                         for name, value in options.items()}

    def __enter__(self) -> "MotoStore":
        port = self.endpoint.rpartition(":")[2]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [moto_server(), "-H", HOST, "-p", port],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        try:
            self._create_bucket()
        except StoreError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def put(self, path: str, data: bytes) -> None:
        self._request("PUT", self._key(path), data)

    def get(self, path: str) -> bytes | None:
        return self._request("GET", self._key(path))

    def keys(self, directory: str) -> set[str]:
        prefix = self._key(directory).rstrip("/") + "/"
        found: set[str] = set()
        token = None
        while True:
            page = self._list(prefix, token)
            found |= {text(item, "Key").removeprefix(prefix) for item in page.iter(tag("Contents"))}
            token = text(page, "NextContinuationToken")
            if not token:
                return {key for key in found if not is_marker_of_full(key, found)}

    def _key(self, path: str) -> str:
        return f"{self.PREFIX}/{path.lstrip('/')}"

    def _list(self, prefix: str, token: str | None) -> ElementTree.Element:
        query = {"list-type": "2", "prefix": prefix}
        if token:
            query["continuation-token"] = token
        body = self._request("GET", "", query=urllib.parse.urlencode(query))
        return ElementTree.fromstring(body or b"<none/>")

    def _request(self, method: str, key: str, data: bytes | None = None,
                 query: str = "") -> bytes | None:
        url = f"{self.endpoint}/{self.BUCKET}/{urllib.parse.quote(key)}?{query}".rstrip("?")
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 {self.CREDENTIAL}, SignedHeaders=host, Signature=0",
            "Content-Type": "application/octet-stream",
        }
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def _create_bucket(self) -> None:
        deadline = time.monotonic() + self.STARTS_WITHIN
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                self._request("PUT", "")
                return
            except OSError:
                time.sleep(0.1)
        raise StoreError(f"moto_server does not answer\n{self.log.read_text(errors='replace')}")


def is_marker_of_full(key: str, keys: set[str]) -> bool:
    """Whether a key only marks a directory that other keys prove anyway."""
    return key.endswith("/") and any(other.startswith(key) and other != key for other in keys)


def moto_server() -> str:
    """The one beside this Python (a virtual environment's), or the one on the path."""
    beside = Path(sys.executable).with_name("moto_server")
    found = str(beside) if beside.exists() else shutil.which("moto_server")
    if not found:
        raise StoreError("no moto_server: pip install -r conformance/requirements.txt")
    return found


def tag(name: str) -> str:
    return "{http://s3.amazonaws.com/doc/2006-03-01/}" + name


def text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(tag(name)) or ""
