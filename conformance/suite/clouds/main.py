"""The command line: starts a server, runs what is asked against it, ends it, and takes the next."""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from suite.azurite import AzuriteStore
from suite.clouds.foreign import try_driver
from suite.clouds.measure import HEADER, LESS, QUICK, Scale, measure
from suite.clouds.moves import try_moves
from suite.clouds.outage import try_outage
from suite.fakegcs import FakeGcsStore
from suite.gateway import HOST, REPOSITORY, GatewayError
from suite.s3 import MotoStore, VersityStore
from suite.stores import Store, StoreError

SERVERS = {"versitygw": VersityStore, "azurite": AzuriteStore, "moto": MotoStore,
           "fake-gcs-server": FakeGcsStore}

BUCKETS = 40
"""For behaviours that want a bucket of their own: `tried-0` and so on."""

SUITE = ["--lib", "--", "--ignored", "--nocapture", "a_real_server_does_what_every_store_does"]
HISTORIES = ["--test", "histories", "--", "--ignored", "--nocapture", "whichever_server_it_is_an_order_explains_it"]


def main() -> int:
    options = parse_arguments()
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST
    if options.measure:
        return measure_all(options)
    wrong = []
    for name in options.server or SERVERS:
        started = time.monotonic()
        print(f"==> {name}", flush=True)
        failed = try_server(name, options)
        wrong += [f"{name}: {what}" for what in failed]
        print(f"==> {name}: {time.monotonic() - started:.0f} s", flush=True)
    for what in wrong:
        print(f"FAILED {what}")
    return 1 if wrong else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance/clouds",
        description="Runs the store suite and the histories against servers that nobody here wrote.",
    )
    parser.add_argument("--server", action="append", choices=SERVERS,
                        help="only this one (repeatable; default: all)")
    parser.add_argument("--histories", type=int, default=500,
                        help="so many on each server (default: 500; 0: none)")
    parser.add_argument("--seed", type=int, default=1, help="the seed of the first history")
    parser.add_argument("--test", help="only behaviours with this text in their name, and no history")
    parser.add_argument("--measure", action="store_true",
                        help="measure large directories and appends on versitygw and Azurite instead")
    parser.add_argument("--quick", action="store_true", help="the same with less of everything")
    return parser.parse_args()


def measure_all(options: argparse.Namespace) -> int:
    """A table of what the gateway takes on each server."""
    rows = []
    for name in options.server or ["versitygw", "azurite"]:
        home = Path(tempfile.mkdtemp(prefix=f"bucketferry-{name}-"))
        try:
            with SERVERS[name](home) as store:
                whole = LESS if name == "azurite" else Scale()
                rows += measure(name, store, QUICK if options.quick else whole)
        finally:
            shutil.rmtree(home, ignore_errors=True)
    print("\n".join([HEADER, *rows]))
    return 0


def try_server(name: str, options: argparse.Namespace) -> list[str]:
    """What was wrong."""
    home = Path(tempfile.mkdtemp(prefix=f"bucketferry-{name}-"))
    failed = []
    try:
        with SERVERS[name](home) as store:
            failed += try_driver(store, home) if name == "fake-gcs-server" else try_store(name, store, options)
    except (GatewayError, StoreError) as error:
        failed.append(str(error))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return failed


def try_store(name: str, store: Store, options: argparse.Namespace) -> list[str]:
    """The suite and the histories."""
    failed = []
    for number in range(BUCKETS):
        store.make_bucket(f"tried-{number}")
    environment = told(name, store, options)
    if not run(SUITE, environment):
        failed.append("the suite")
    if store.why_no_histories:
        print(f"no histories on {name}: {store.why_no_histories}", flush=True)
    elif options.histories and not options.test and not run(HISTORIES, environment):
        failed.append("the histories")
    if isinstance(store, VersityStore) and not options.test:
        failed += try_outage(store, store.home)
        failed += try_moves(store, store.home)
    return failed


def told(name: str, store: Store, options: argparse.Namespace) -> dict[str, str]:
    """The environment by which the tests find the server."""
    prefix = "BUCKETFERRY_STORE__OPTIONS__"
    lines = [f"{key.removeprefix(prefix)}={value}" for key, value in store.settings.items()]
    environment = {
        "CLOUD": name,
        "CLOUD_BUCKET": store.url.rpartition("/")[0],
        "CLOUD_OPTIONS": "\n".join(lines),
        "HISTORIES": str(options.histories),
        "SEED": str(options.seed),
        # The server has the same processors.
        "AT_ONCE": os.environ.get("AT_ONCE", "6"),
    }
    if not store.keeps_gateways_apart:
        environment["CLOUD_ALONE"] = "1"
    return environment | ({"CLOUD_TEST": options.test} if options.test else {})


def run(arguments: list[str], environment: dict[str, str]) -> bool:
    command = [os.environ.get("CARGO", "cargo"), "test", "--locked", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, env=os.environ | environment, check=False)
    return done.returncode == 0
