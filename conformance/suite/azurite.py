"""A container in Azurite, Microsoft's own emulator of Azure Blob Storage, asked by signed HTTP."""

import base64
import hashlib
import hmac
import shutil
import urllib.error
import urllib.parse
import urllib.request
from email.utils import formatdate
from pathlib import Path
from xml.etree import ElementTree

from suite.gateway import HOST, free_port
from suite.server import Server
from suite.stores import Store, StoreError, is_marker_of_full

VERSION = "2023-11-03"
"""Of the protocol."""


class AzuriteStore(Store):
    """Its account and key are the ones that every Azurite has."""

    ACCOUNT = "devstoreaccount1"
    KEY = ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
    CONTAINER = "conformance"
    PREFIX = "landing"
    STARTS_WITHIN = 60.0

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "azurite.log"
        self.port = free_port()
        self.endpoint = f"http://{HOST}:{self.port}/{self.ACCOUNT}"
        self.url = f"az://{self.CONTAINER}/{self.PREFIX}"
        options = {
            "ENDPOINT": self.endpoint,
            "STORAGE_ACCOUNT_NAME": self.ACCOUNT,
            "STORAGE_ACCOUNT_KEY": self.KEY,
            "ALLOW_HTTP": "true",
        }
        self.settings = {f"BUCKETFERRY_STORE__OPTIONS__AZURE_{name}": value
                         for name, value in options.items()}

    def __enter__(self) -> "AzuriteStore":
        program = shutil.which("azurite-blob")
        if not program:
            raise StoreError("no azurite-blob: npm install --global azurite@3.35.0")
        arguments = [program, "--blobHost", HOST, "--blobPort", str(self.port), "--silent",
                     "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence"]
        self.server = Server(arguments, self.home, self.log)
        try:
            self.server.wait_for(self._create_container, self.STARTS_WITHIN)
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def make_bucket(self, name: str) -> None:
        """One more container, beside its own."""
        self._request("PUT", "", query={"restype": "container"}, container=name)

    def put(self, path: str, data: bytes) -> None:
        self._request("PUT", self._key(path), data, {"x-ms-blob-type": "BlockBlob"})

    def get(self, path: str) -> bytes | None:
        return self._request("GET", self._key(path))

    def keys(self, directory: str) -> set[str]:
        prefix = self._key(directory).rstrip("/") + "/"
        found: set[str] = set()
        marker = ""
        while True:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            page = ElementTree.fromstring(self._request("GET", "", query=query) or b"<none/>")
            found |= {(blob.findtext("Name") or "").removeprefix(prefix)
                      for blob in page.iter("Blob")}
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return {key for key in found if not is_marker_of_full(key, found)}

    def _key(self, path: str) -> str:
        return f"{self.PREFIX}/{path.lstrip('/')}"

    def _create_container(self) -> None:
        self._request("PUT", "", query={"restype": "container"})

    def _request(self, method: str, key: str, data: bytes | None = None,
                 headers: dict[str, str] | None = None,
                 query: dict[str, str] | None = None,
                 container: str = CONTAINER) -> bytes | None:
        path = urllib.parse.quote(f"/{self.ACCOUNT}/{container}/{key}".rstrip("/"), safe="/~")
        if key.endswith("/"):
            path += "/"
        url = f"http://{HOST}:{self.port}{path}?{urllib.parse.urlencode(query or {})}".rstrip("?")
        data = b"" if method == "PUT" and data is None else data
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION, **(headers or {})}
        length = str(len(data)) if data else ""
        kind = "application/octet-stream" if data is not None else ""
        if kind:
            headers["Content-Type"] = kind
        headers["Authorization"] = self._signature(method, path, query or {}, headers, length, kind)
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def _signature(self, method: str, path: str, query: dict[str, str],
                   headers: dict[str, str], length: str, kind: str) -> str:
        """The Shared Key of Azure's documentation."""
        own = sorted((name, value) for name, value in headers.items() if name.startswith("x-ms-"))
        lines = [method, "", "", length, "", kind, "", "", "", "", "", ""]
        lines += [f"{name}:{value}" for name, value in own]
        lines += [f"/{self.ACCOUNT}{path}"]
        lines += [f"{name}:{value}" for name, value in sorted(query.items())]
        text = "\n".join(lines).encode()
        digest = hmac.new(base64.b64decode(self.KEY), text, hashlib.sha256).digest()
        return f"SharedKey {self.ACCOUNT}:{base64.b64encode(digest).decode()}"
