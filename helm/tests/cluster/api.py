"""The API of Kubernetes: requests, watches, and mirrors of what there is."""

import http.client
import json
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]

GROUPS = {
    "deployments": "apps/v1", "statefulsets": "apps/v1", "replicasets": "apps/v1", "endpointslices": "discovery.k8s.io/v1",
    "roles": "rbac.authorization.k8s.io/v1", "rolebindings": "rbac.authorization.k8s.io/v1", "certificates": "cert-manager.io/v1",
}  # fmt: skip
PATCHES = {"merge": "application/merge-patch+json", "strategic": "application/strategic-merge-patch+json", "json": "application/json-patch+json"}
ANSWER_WITHIN = 30
# The API server ends each watch after so long.
WATCH_SECONDS = 300


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def path_of(resource: str, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
    """The path of an object, or of all objects of a kind."""
    root = f"/apis/{GROUPS[resource]}" if resource in GROUPS else "/api/v1"
    parts = [root, *(["namespaces", namespace] if namespace else []), resource, name, sub]
    return "/".join(part for part in parts if part)


def key_of(item: Object) -> Key:
    """The namespace and name of an object."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


class Api:
    """A client with a bearer token. Each thread has a connection of its own."""

    def __init__(self, server: str, authority: Path, token: str) -> None:
        self.host = urllib.parse.urlsplit(server).netloc
        self.context = ssl.create_default_context(cafile=str(authority))
        self.token = token
        self.local = threading.local()

    def get(self, resource: str, namespace: str | None, name: str) -> Object | None:
        """The object, if there is one."""
        try:
            return self.request("GET", path_of(resource, namespace, name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    def list(self, resource: str, namespace: str | None = None, **query: str) -> list[Object]:
        """All objects of a kind, or those of a namespace."""
        return self.request("GET", path_of(resource, namespace), **query)["items"]

    def create(self, resource: str, namespace: str | None, body: Object, name: str | None = None, sub: str | None = None) -> Object:
        """Makes an object, or something below one, such as a pod's binding."""
        return self.request("POST", path_of(resource, namespace, name, sub), body)

    def replace(self, resource: str, namespace: str | None, body: Object, sub: str | None = None) -> Object:
        """Puts an object in place of the one with its name."""
        return self.request("PUT", path_of(resource, namespace, body["metadata"]["name"], sub), body)

    def patch(self, resource: str, namespace: str | None, name: str, body: Any, kind: str = "merge", sub: str | None = None) -> Object:
        """Changes a part of an object."""
        return self.request("PATCH", path_of(resource, namespace, name, sub), body, content=PATCHES[kind])

    def delete(self, resource: str, namespace: str | None, name: str, **options: Any) -> None:
        """Deletes an object; it may be gone already."""
        try:
            self.request("DELETE", path_of(resource, namespace, name), {"apiVersion": "v1", "kind": "DeleteOptions", **options})
        except ApiError as error:
            if error.code != 404:
                raise

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json", **query: str) -> Object:
        """The JSON in the answer to a request."""
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json", "Content-Type": content}
        status, answer = self.exchange(method, target, data, headers)
        if status >= 300:
            raise ApiError(status, answer.decode(errors="replace"))
        return json.loads(answer)

    def exchange(self, method: str, target: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body, on the thread's connection, or on a new one if that has been closed."""
        for is_last in (not hasattr(self.local, "connection"), True):
            if not hasattr(self.local, "connection"):
                self.local.connection = self.connection(ANSWER_WITHIN)
            try:
                self.local.connection.request(method, target, data, headers)
                answer = self.local.connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                self.local.connection.close()
                del self.local.connection
                if is_last:
                    raise
        raise AssertionError

    def connection(self, timeout: float) -> http.client.HTTPSConnection:
        """A connection that is not used yet."""
        return http.client.HTTPSConnection(self.host, context=self.context, timeout=timeout)

    def watch(self, resource: str, namespace: str | None = None) -> Iterator[tuple[str, Any]]:
        """First ("SYNC", all objects), then each change as (type, object), until the server ends the watch or forgets its place."""
        path = path_of(resource, namespace)
        there = self.request("GET", path)
        yield "SYNC", there["items"]
        version = there["metadata"]["resourceVersion"]
        connection = self.connection(WATCH_SECONDS + ANSWER_WITHIN)
        query = urllib.parse.urlencode({"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": WATCH_SECONDS})
        try:
            connection.request("GET", f"{path}?{query}", headers={"Authorization": f"Bearer {self.token}", "Accept": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ApiError(answer.status, answer.read().decode(errors="replace"))
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 0), event["object"].get("message", ""))
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["object"]
        finally:
            connection.close()


class Mirror:
    """All objects of a kind as they are now, kept up to date by a watch for as long as this process runs."""

    def __init__(self, api: Api, resource: str, on_change: Callable[[], None]) -> None:
        self.api = api
        self.resource = resource
        self.on_change = on_change
        self.objects: dict[Key, Object] = {}
        self.is_stopped = threading.Event()
        self.is_synced = threading.Event()

    def start(self) -> None:
        """Begins to watch, and returns when the first list is there."""
        threading.Thread(target=self.follow, name=f"mirror of {self.resource}", daemon=True).start()
        if not self.is_synced.wait(ANSWER_WITHIN):
            raise TimeoutError(f"no list of {self.resource}")

    def stop(self) -> None:
        """Takes no more changes."""
        self.is_stopped.set()

    def follow(self) -> None:
        """Watches again and again: a watch that ends, expires or breaks begins anew with a list."""
        while not self.is_stopped.is_set():
            try:
                for change, what in self.api.watch(self.resource):
                    if self.is_stopped.is_set():
                        return
                    self.take(change, what)
            except (OSError, http.client.HTTPException, ApiError, ValueError):
                self.is_stopped.wait(0.2)

    def take(self, change: str, what: Any) -> None:
        """Applies one change."""
        if change == "SYNC":
            self.objects = {key_of(item): item for item in what}
            self.is_synced.set()
        elif change == "DELETED":
            self.objects.pop(key_of(what), None)
        else:
            self.objects[key_of(what)] = what
        self.on_change()

    def get(self, namespace: str, name: str) -> Object | None:
        """The object with this name."""
        return self.objects.get((namespace, name))

    def all(self) -> list[Object]:
        """All objects."""
        return list(self.objects.values())


def eventually(what: str, holds: Callable[[], Any], seconds: float = 30) -> Any:
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.05)
    return answer
