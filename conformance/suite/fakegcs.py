"""A bucket in fake-gcs-server, which speaks Google's JSON API, served by the driver that does."""

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import ClassVar

from suite.gateway import HOST, free_port
from suite.server import Server
from suite.stores import Store, StoreError, is_marker_of_full

NO_RENAME = "unftp-sbe-gcs knows no rename"
NO_APPEND = "unftp-sbe-gcs can't add to an object"


class FakeGcsStore(Store):
    """Only `unftp-sbe-gcs` can use it: the gateway itself speaks Google's XML API."""

    BUCKET = "conformance"
    PREFIX = "landing"
    STARTS_WITHIN = 60.0

    renames = False
    cannot: ClassVar[dict[str, str]] = {
        "append": NO_APPEND,
        "append-to-large": NO_APPEND,
        "resume-upload": NO_APPEND,
        "resume-after-cut": NO_APPEND,
        "rename": NO_RENAME,
        "rename-into-directory": NO_RENAME,
        "rename-directory": NO_RENAME,
        "rename-large-directory": NO_RENAME,
    }

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "fake-gcs-server.log"
        self.endpoint = f"http://{HOST}:{free_port()}"
        self.url = f"gs://{self.BUCKET}/{self.PREFIX}"
        self.settings = {
            "BUCKETFERRY_STORE__DRIVER": "unftp-sbe-gcs",
            "BUCKETFERRY_STORE__OPTIONS__GOOGLE_BASE_URL": self.endpoint,
            "BUCKETFERRY_STORE__OPTIONS__GOOGLE_SKIP_SIGNATURE": "true",
            "BUCKETFERRY_UPLOAD__RESUME_WINDOW": "none",
        }

    def __enter__(self) -> "FakeGcsStore":
        program = shutil.which("fake-gcs-server")
        if not program:
            raise StoreError("no fake-gcs-server: make cloud-tools")
        port = self.endpoint.rpartition(":")[2]
        arguments = [program, "-scheme", "http", "-host", HOST, "-port", port, "-backend", "memory",
                     "-external-url", self.endpoint, "-log-level", "error"]
        self.server = Server(arguments, self.home, self.log)
        try:
            self.server.wait_for(lambda: self.make_bucket(self.BUCKET), self.STARTS_WITHIN)
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def make_bucket(self, name: str) -> None:
        self._request("POST", "/storage/v1/b?project=test", json.dumps({"name": name}).encode())

    def put(self, path: str, data: bytes) -> None:
        name = urllib.parse.quote(self._key(path), safe="")
        self._request("POST", f"/upload/storage/v1/b/{self.BUCKET}/o?uploadType=media&name={name}",
                      data)

    def get(self, path: str) -> bytes | None:
        name = urllib.parse.quote(self._key(path), safe="")
        return self._request("GET", f"/storage/v1/b/{self.BUCKET}/o/{name}?alt=media")

    def keys(self, directory: str) -> set[str]:
        prefix = self._key(directory).rstrip("/") + "/"
        found: set[str] = set()
        token = ""
        while True:
            query = urllib.parse.urlencode({"prefix": prefix, "pageToken": token})
            page = json.loads(self._request("GET", f"/storage/v1/b/{self.BUCKET}/o?{query}") or b"{}")
            found |= {item["name"].removeprefix(prefix) for item in page.get("items", [])}
            token = page.get("nextPageToken", "")
            if not token:
                return {key for key in found if not is_marker_of_full(key, found)}

    def _key(self, path: str) -> str:
        return f"{self.PREFIX}/{path.lstrip('/')}"

    def _request(self, method: str, path: str, data: bytes | None = None) -> bytes | None:
        headers = {"Content-Type": "application/octet-stream"} if data is not None else {}
        request = urllib.request.Request(self.endpoint + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
