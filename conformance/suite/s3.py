"""A bucket of an S3 server that runs here, asked by signed HTTP: moto, and versitygw."""

import hashlib
import hmac
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import abstractmethod
from pathlib import Path
from xml.etree import ElementTree

from suite.gateway import HOST, free_port
from suite.server import Server
from suite.stores import Store, StoreError, is_marker_of_full

REGION = "us-east-1"


class S3Store(Store):
    """A server with one bucket."""

    KEY_ID = "conformance"
    SECRET = "conformance-secret"
    BUCKET = "conformance"
    PREFIX = "landing"
    STARTS_WITHIN = 60.0

    name: str
    """What its log is called by."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}"
        self.url = f"s3://{self.BUCKET}/{self.PREFIX}"
        options = {
            "ENDPOINT": self.endpoint,
            "ACCESS_KEY_ID": self.KEY_ID,
            "SECRET_ACCESS_KEY": self.SECRET,
            "REGION": REGION,
            "ALLOW_HTTP": "true",
            "VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }
        self.settings = {f"BUCKETFERRY_STORE__OPTIONS__AWS_{name}": value
                         for name, value in options.items()}

    @abstractmethod
    def command(self) -> list[str]:
        """What starts the server."""

    def environment(self) -> dict[str, str]:
        """What is added to its environment."""
        return {}

    def __enter__(self) -> "S3Store":
        self.server = Server(self.command(), self.home, self.home / f"{self.name}.log",
                             self.environment())
        try:
            self.server.wait_for(self._create_bucket, self.STARTS_WITHIN)
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def die(self) -> None:
        """Its process is killed; what it has written stays."""
        self.server.kill()

    def come_back(self) -> None:
        """At the same address, with what it has written."""
        self.server = Server(self.command(), self.home, self.home / f"{self.name}-again.log",
                             self.environment())
        self.server.wait_for(lambda: self._request("GET", "none"), self.STARTS_WITHIN)

    def make_bucket(self, name: str) -> None:
        """One more, beside its own."""
        self._request("PUT", "", bucket=name)

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
        return ElementTree.fromstring(self._request("GET", "", query=query) or b"<none/>")

    def _create_bucket(self) -> None:
        self._request("PUT", "")

    def _request(self, method: str, key: str, data: bytes | None = None,
                 query: dict[str, str] | None = None, bucket: str = BUCKET) -> bytes | None:
        path = urllib.parse.quote(f"/{bucket}/{key}" if key else f"/{bucket}", safe="/~")
        asked = urllib.parse.urlencode(sorted((query or {}).items()), quote_via=urllib.parse.quote,
                                       safe="~")
        headers = self._signed(method, path, asked, data or b"")
        headers["Content-Type"] = "application/octet-stream"
        url = f"{self.endpoint}{path}?{asked}".rstrip("?")
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def _signed(self, method: str, path: str, query: str, data: bytes) -> dict[str, str]:
        """Version 4 of AWS's signatures."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        digest = hashlib.sha256(data).hexdigest()
        signed = {"host": f"{HOST}:{self.port}", "x-amz-content-sha256": digest, "x-amz-date": now}
        names = ";".join(signed)
        canonical = [method, path, query, *(f"{name}:{value}" for name, value in signed.items()),
                     "", names, digest]
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        whole = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        key = f"AWS4{self.SECRET}".encode()
        for step in scope.split("/"):
            key = hmac.digest(key, step.encode(), "sha256")
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, whole])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"Credential={self.KEY_ID}/{scope}"
        authorization = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature}"
        return {"x-amz-content-sha256": digest, "x-amz-date": now, "Authorization": authorization}


class MotoStore(S3Store):
    """It checks no signatures."""

    name = "moto"
    keeps_gateways_apart = False
    why_no_histories = "it passes over x-amz-copy-source-if-match: a rename that meets an upload copies the newer file"

    def command(self) -> list[str]:
        python = Path(moto_server()).with_name("python")
        return [str(python), str(Path(__file__).with_name("serial_moto.py")), HOST, str(self.port)]


class VersityStore(S3Store):
    """The gateway of Versity on a folder, whose metadata is extended attributes."""

    name = "versitygw"
    keeps_gateways_apart = False
    cannot = {"odd-keys": "on versitygw objects are files, and its listings have U+FFFD for what XML can't say"}

    def command(self) -> list[str]:
        folder = self.home / "versitygw"
        folder.mkdir(exist_ok=True)
        return [program("versitygw"), "--port", f"{HOST}:{self.port}", "--region", REGION,
                "--quiet", "--keep-alive", "posix", *self.metadata(folder), str(folder)]

    def metadata(self, folder: Path) -> list[str]:
        """Extended attributes, where the file system has them, or else a folder beside."""
        try:
            os.setxattr(folder, "user.bucketferry", b"tried")
            os.removexattr(folder, "user.bucketferry")
        except OSError:
            beside = self.home / "versitygw-metadata"
            beside.mkdir(exist_ok=True)
            return ["--sidecar", str(beside)]
        return []

    def environment(self) -> dict[str, str]:
        return {"ROOT_ACCESS_KEY": self.KEY_ID, "ROOT_SECRET_KEY": self.SECRET}


def program(name: str) -> str:
    """A program on the path."""
    found = shutil.which(name)
    if not found:
        raise StoreError(f"no {name}: make cloud-tools")
    return found


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
