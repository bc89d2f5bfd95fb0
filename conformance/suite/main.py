"""The command line of the suite, and the order in which things happen."""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from suite import cases, elsewhere, report
from suite.azurite import AzuriteStore
from suite.certificate import Certificate, CertificateError
from suite.clients import CLIENTS
from suite.clients.base import Client, Login
from suite.fakegcs import FakeGcsStore
from suite.gateway import HOST, Gateway, GatewayError, binary
from suite.s3 import MotoStore, VersityStore
from suite.stores import FileStore, Store, StoreError

ROWS = ["file", "s3", "versitygw", "azure", "unftp-sbe-gcs", "tls", "tls-reuse"]
"""The stores, the driver that is not ours, and the folder by TLS only: as clients like, and each data connection resuming."""


def main() -> int:
    options = parse_arguments()
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST
    scratch = Path(tempfile.mkdtemp(prefix="bucketferry-conformance-"))
    try:
        results = list(run_everything(options, scratch))
    finally:
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    report.show(results)
    return 0 if results and all(result.passed for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance/run",
        description="Tries the gateway with real FTP clients and looks at what is in the store.",
        epilog="The gateway is $BUCKETFERRY_BIN, or target/release/bucketferry.",
    )
    parser.add_argument("--store", action="append", choices=ROWS,
                        help="only this store, or TLS (repeatable; default: all)")
    parser.add_argument("--client", action="append", choices=[client.name for client in CLIENTS],
                        help="only this client (repeatable; default: all)")
    parser.add_argument("--case", action="append", metavar="TEXT",
                        help="only cases with TEXT in their name (repeatable; default: all)")
    parser.add_argument("--keep", action="store_true",
                        help="keep the scratch folder with logs, stores and downloads")
    against = parser.add_argument_group(
        "a server that already runs", "it must serve a folder of this machine")
    against.add_argument("--against", metavar="HOST:PORT", help="try this server, start none")
    against.add_argument("--root", type=Path, metavar="DIR", help="the folder it serves as /")
    against.add_argument("--user", default="ferry")
    against.add_argument("--password", default="")
    options = parser.parse_args()
    if options.against and not options.root:
        parser.error("--against needs --root")
    return options


@dataclass
class Setting:
    """A running server and the store behind it."""

    name: str
    store: Store
    login: Login


def run_everything(options: argparse.Namespace, scratch: Path) -> Iterator[report.Result]:
    if options.against:
        yield from try_running_server(options, scratch)
        return
    for name in options.store or ROWS:
        yield from try_own_gateway(name, options, scratch)


def try_running_server(options: argparse.Namespace, scratch: Path) -> Iterator[report.Result]:
    host, _, port = options.against.rpartition(":")
    store = FileStore(options.root)
    login = Login(host.strip("[]"), int(port), options.user, options.password)
    if store.keys(cases.TOP):
        sys.exit(f"{options.root}{cases.TOP} exists: move it away first")
    try:
        yield from try_clients(Setting("running server", store, login), options, scratch)
    finally:
        shutil.rmtree(options.root / cases.TOP.strip("/"), ignore_errors=True)


def try_own_gateway(name: str, options: argparse.Namespace,
                    scratch: Path) -> Iterator[report.Result]:
    """Starts a store and a gateway, tries every client, ends both."""
    home = scratch / name
    home.mkdir()
    try:
        with open_store(name, home) as store:
            gateway = gateway_for(name, store, home)
            gateway.start()
            yield report.passed(name, "gateway", "start", 0.0)
            try:
                yield from try_clients(Setting(name, store, gateway.login), options, home)
                if name in elsewhere.ROWS and wants(elsewhere.CASE, options):
                    yield from elsewhere.try_all(name, store, home, chosen_clients(name, options))
            finally:
                stopped = stop(name, gateway)
            yield stopped
    except (CertificateError, GatewayError, StoreError) as error:
        yield report.failed(name, "gateway", "start", 0.0, str(error))
        for client in chosen_clients(name, options):
            if name in client.left_out:
                continue
            for case in chosen_cases(options):
                yield report.failed(name, client.name, case.name, 0.0, "the gateway did not start")


@contextmanager
def open_store(name: str, home: Path) -> Iterator[Store]:
    if name == "file" or name.startswith("tls"):
        root = home / "bucket"
        root.mkdir()
        yield FileStore(root)
    else:
        kind = {"s3": MotoStore, "versitygw": VersityStore, "azure": AzuriteStore,
                "unftp-sbe-gcs": FakeGcsStore}[name]
        with kind(home) as store:
            yield store


def gateway_for(name: str, store: Store, home: Path) -> Gateway:
    log = home / "gateway.log"
    if not name.startswith("tls"):
        return Gateway(binary(), store.url, store.settings, log)
    certificate = Certificate.make(home / "certificate")
    settings = certificate.settings("all", require_session_reuse=name == "tls-reuse")
    return Gateway(binary(), store.url, store.settings | settings, log, certificate.authority)


def stop(name: str, gateway: Gateway) -> report.Result:
    started = time.monotonic()
    try:
        gateway.stop()
    except GatewayError as error:
        return report.failed(name, "gateway", "stop", time.monotonic() - started, str(error))
    return report.passed(name, "gateway", "stop", time.monotonic() - started)


def try_clients(setting: Setting, options: argparse.Namespace,
                scratch: Path) -> Iterator[report.Result]:
    for kind in chosen_clients(setting.name, options):
        if reason := kind.left_out.get(setting.name):
            yield report.left_out(setting.name, kind.name, reason)
            continue
        home = scratch / kind.name
        home.mkdir()
        started = time.monotonic()
        client = kind(setting.login, home)
        print(f"{setting.name}: {client.version()} ", end="", flush=True)
        for case in chosen_cases(options):
            result = try_case(case, client, setting, home)
            print("." if result.passed else "F", end="", flush=True)
            yield result
        print(f" {time.monotonic() - started:.1f} s", flush=True)


def try_case(case: cases.Case, client: Client, setting: Setting, home: Path) -> report.Result:
    if reason := client.cannot.get(case.name) or setting.store.cannot.get(case.name):
        return report.not_applicable(setting.name, client.name, case.name, reason)
    started = time.monotonic()
    try:
        case.run(cases.Place(client, setting.store, case, home))
    except Exception as error:  # whatever went wrong is the result of this case
        seconds = time.monotonic() - started
        detail = f"{type(error).__name__}: {error}"
        return report.failed(setting.name, client.name, case.name, seconds, detail)
    return report.passed(setting.name, client.name, case.name, time.monotonic() - started)


def chosen_clients(row: str, options: argparse.Namespace) -> list[type[Client]]:
    there = [kind for kind in CLIENTS if not kind.only_in or row in kind.only_in]
    return [kind for kind in there if not options.client or kind.name in options.client]


def chosen_cases(options: argparse.Namespace) -> list[cases.Case]:
    return [case for case in cases.CASES if wants(case.name, options)]


def wants(case: str, options: argparse.Namespace) -> bool:
    return any(text in case for text in options.case or [""])
