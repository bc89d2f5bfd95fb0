"""Starts a gateway on each store, and holds it to the contract."""

import argparse
import os
import shutil
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

from suite.gateway import HOST, Gateway, GatewayError, binary
from suite.main import open_store
from suite.pyfilesystem.contract import LEFT_OUT, contract
from suite.stores import StoreError

STORES = ["file", "s3"]

SETTINGS = {"BUCKETFERRY_UPLOAD__MISSING_DIRECTORIES": "refuse"}
"""What POSIX wants: nothing is put where there is no directory."""


def main() -> int:
    options = parse_arguments()
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = HOST
    scratch = Path(tempfile.mkdtemp(prefix="bucketferry-pyfilesystem-"))
    try:
        kept = [try_store(name, options, scratch) for name in options.store or STORES]
    finally:
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    for case, reason in LEFT_OUT.items():
        print(f"left out: {case}: {reason}")
    return 0 if all(kept) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance/pyfilesystem",
        description="Holds the gateway to PyFilesystem's contract of a file system.",
        epilog="The gateway is $BUCKETFERRY_BIN, or target/release/bucketferry.",
    )
    parser.add_argument("--store", action="append", choices=STORES,
                        help="only this store (repeatable; default: all)")
    parser.add_argument("--case", action="append", metavar="TEXT",
                        help="only cases with TEXT in their name (repeatable; default: all)")
    parser.add_argument("--keep", action="store_true",
                        help="keep the scratch folder with logs and stores")
    return parser.parse_args()


def try_store(name: str, options: argparse.Namespace, scratch: Path) -> bool:
    """Whether the gateway on this store keeps the contract, and ends in peace."""
    home = scratch / name
    home.mkdir()
    try:
        with open_store(name, home) as store:
            gateway = Gateway(binary(), store.url, store.settings | SETTINGS, home / "gateway.log")
            gateway.start()
            try:
                kept = try_contract(name, gateway, options)
            finally:
                gateway.stop()
    except (GatewayError, StoreError) as error:
        print(f"{name}: {error}")
        return False
    return kept


def try_contract(name: str, gateway: Gateway, options: argparse.Namespace) -> bool:
    print(f"{name}:", flush=True)
    wanted = options.case or [""]
    cases = [case for case in contract(name, gateway.login)
             if any(text in case.id() for text in wanted)]
    with warnings.catch_warnings():
        # What the package itself does that is no longer done so.
        warnings.simplefilter("ignore")
        # Some cases print.
        runner = unittest.TextTestRunner(sys.stdout, buffer=True, warnings="ignore")
        result = runner.run(unittest.TestSuite(cases))
    for case, reason in result.skipped:
        if case.id().rpartition(".")[2] not in LEFT_OUT:
            print(f"skipped by the contract itself: {case.id()}: {reason}")
    return bool(cases) and result.wasSuccessful()
