"""The address in a 227 follows the Service, on a real API server."""

import io
import re
import time
import unittest
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ftplib import FTP
from typing import Any

import yaml

import fixtures
from api import Object, eventually
from fixtures import NAME, RELEASE, helm, install, login, make_secrets, passive_address, ready_pod
from support import CHART, of_kind

VALUES: dict[str, Any] = {
    "users": {"existingSecret": "ferry-users"}, "startupProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1},
}  # fmt: skip
FIRST, SECOND, THIRD = "203.0.113.1", "203.0.113.2", "203.0.113.3"
FORBIDDEN = "the API server forbids it; the rights to get and to watch this Service are needed"
# The gateway's own: how long one of its watches lasts, and the longest wait after a failure.
WATCH, RETRY = 30, 4
AWAY = 10


class Discovery(unittest.TestCase):
    """A gateway in a pod, with the token and the rights that the chart gives it."""

    def test_an_address_is_learned_at_once_and_kept_while_there_is_no_service(self) -> None:
        with fixtures.CLUSTER.namespace("address") as namespace:
            gateway = Gateway(namespace)
            self.assertEqual(passive_address(gateway.session), "425")
            gateway.uploads_by_epsv()
            gateway.learns(FIRST, within=2)
            fixtures.CLUSTER.balance(namespace, NAME, SECOND, "2001:db8:b::2")
            gateway.tells(SECOND, within=2)
            fixtures.CLUSTER.kubectl("delete", "service", NAME, "--namespace", namespace)
            gateway.says("there is no such Service", within=5)
            self.assertEqual(passive_address(gateway.session), SECOND)
            apply_again(namespace, "Service")
            gateway.learns(THIRD, within=2)

    def test_trouble_with_rights_and_tokens(self) -> None:
        stories = [rights_are_taken_away, rights_never_given, token_expires, nothing_happens]
        # At once: each waits for a watch to end, which takes half a minute.
        with ThreadPoolExecutor(len(stories)) as pool:
            told = [pool.submit(in_namespace, story) for story in stories]
        for story, outcome in zip(stories, told, strict=True):
            with self.subTest(story.__name__):
                outcome.result()

    def test_without_the_api_server_all_stays_as_it_was(self) -> None:
        with fixtures.CLUSTER.namespace("away") as namespace:
            gateway = Gateway(namespace)
            gateway.learns(FIRST, within=2)
            fixtures.CLUSTER.control_plane.stop_api_server()
            try:
                back_at = time.monotonic() + AWAY
                while time.monotonic() < back_at:
                    self.assertEqual(passive_address(gateway.session), FIRST)
                    gateway.uploads_by_epsv()
                    time.sleep(0.5)
            finally:
                fixtures.CLUSTER.control_plane.start_api_server()
                self.addCleanup(fixtures.CLUSTER.control_plane.restart_clients)
            gateway.says("the last one is kept", within=1)
            gateway.learns(SECOND, within=2 * RETRY)


def in_namespace(story: Callable[[str], None]) -> None:
    """Runs one of the following in a namespace of its own."""
    with fixtures.CLUSTER.namespace(story.__name__.replace("_", "-")) as namespace:
        story(namespace)


def rights_are_taken_away(namespace: str) -> None:
    """Without its RoleBinding, the gateway keeps the address that it knows; with it, it learns the new one."""
    gateway = Gateway(namespace)
    gateway.learns(FIRST, within=2)
    fixtures.CLUSTER.kubectl("delete", "rolebinding", NAME, "--namespace", namespace)
    gateway.says(FORBIDDEN, within=WATCH + RETRY)
    fixtures.CLUSTER.balance(namespace, NAME, SECOND)
    failures = gateway.failures()
    eventually("two more tries", lambda: gateway.failures() >= failures + 2, 3 * RETRY)
    assert passive_address(gateway.session) == FIRST, "it has no right to know the new address"
    apply_again(namespace, "RoleBinding")
    gateway.tells(SECOND, within=2 * RETRY)


def rights_never_given(namespace: str) -> None:
    """Without rights from the start there is no address, and the log says which rights are missing."""
    gateway = Gateway(namespace, "--set", "rbac.create=false")
    fixtures.CLUSTER.balance(namespace, NAME, FIRST)
    gateway.says(FORBIDDEN, within=2 * RETRY)
    gateway.says(f'services \\"{NAME}\\" is forbidden', within=1)
    assert passive_address(gateway.session) == "425"
    gateway.uploads_by_epsv()
    helm("upgrade", RELEASE, str(CHART), "--namespace", namespace, values=VALUES)
    gateway.tells(FIRST, within=2 * RETRY)


def token_expires(namespace: str) -> None:
    """A token that is not valid any more takes nothing away, and its successor in the file is used."""
    gateway = Gateway(namespace)
    gateway.learns(FIRST, within=2)
    # The shortest life of a token is ten minutes; with its account made anew, it is invalid at once.
    fixtures.CLUSTER.kubectl("delete", "serviceaccount", NAME, "--namespace", namespace)
    apply_again(namespace, "ServiceAccount")
    gateway.says("Unauthorized", within=WATCH + RETRY)
    fixtures.CLUSTER.balance(namespace, NAME, SECOND)
    assert passive_address(gateway.session) == FIRST, "its token should not be valid"
    fixtures.CLUSTER.kubelet.renew_tokens(namespace, gateway.name)
    gateway.tells(SECOND, within=2 * RETRY)


def nothing_happens(namespace: str) -> None:
    """Watches that the server ends in time, with a bookmark, are no trouble."""
    gateway = Gateway(namespace)
    gateway.learns(FIRST, within=2)
    said, failures = gateway.log(), gateway.failures()
    time.sleep(WATCH + RETRY)
    assert gateway.failures() == failures
    assert [line for line in gateway.log().removeprefix(said).splitlines() if "address" in line] == []
    gateway.learns(SECOND, within=2)


class Gateway:
    """The gateway of a namespace, and a session with it."""

    def __init__(self, namespace: str, *arguments: str) -> None:
        make_secrets(namespace)
        install(namespace, *arguments, values=VALUES)
        self.namespace = namespace
        pod = ready_pod(namespace)
        self.name: str = pod["metadata"]["name"]
        self.addresses: list[str] = [each["ip"] for each in pod["status"]["podIPs"]]
        self.session = login(self.addresses[0])

    def learns(self, address: str, within: float) -> None:
        """The balancer gets an address, and PASV names it in time."""
        fixtures.CLUSTER.balance(self.namespace, NAME, address)
        self.tells(address, within)

    def tells(self, address: str, within: float) -> None:
        """PASV names this address in time."""
        eventually(f"a 227 with {address}", lambda: passive_address(self.session) == address, within)

    def says(self, text: str, within: float) -> None:
        """The log has this in time."""
        eventually(f"{text!r} in the log", lambda: text in self.log(), within)

    def log(self) -> str:
        """All that it has said."""
        return fixtures.CLUSTER.kubelet.log(self.namespace, self.name)

    def failures(self) -> float:
        """How often it could not look the address up."""
        with urllib.request.urlopen(f"http://{self.addresses[0]}:8080/metrics", timeout=5) as answer:
            return float(re.search(r'^bucketferry_passive_address_lookups_total{outcome="failed"} (\S+)$', answer.read().decode(), re.M)[1])

    def uploads_by_epsv(self) -> None:
        """A file arrives by extended passive mode, which ftplib uses with IPv6."""
        with_epsv: FTP = login(self.addresses[1])
        with_epsv.storbinary("STOR file", io.BytesIO(b"by EPSV"))
        assert with_epsv.size("file") == 7
        with_epsv.quit()


def apply_again(namespace: str, kind: str) -> None:
    """Makes an object of the release anew."""
    manifests: list[Object] = list(filter(None, yaml.safe_load_all(helm("get", "manifest", RELEASE, "--namespace", namespace))))
    chosen = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == NAME]
    fixtures.CLUSTER.kubectl("apply", "--server-side", "--filename", "-", stdin=yaml.safe_dump_all(chosen))
