"""The command line of the deaths, and the order in which things happen."""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from suite.gateway import Gateway, binary
from suite.killed.harms import HARMS, Harm, harmed, looks_whole
from suite.killed.place import Transcript, Way, proxy_before
from suite.killed.senders import PROGRAMS, SENDERS, Sender, Upload

SIZES = {"small": 1000, "large": 30_000_000}

WAYS = {"loopback": 0, "20ms": 20}
"""Milliseconds that a proxy holds everything back in each direction; none is no proxy."""

NEVER_BEGUN = "never begun"

OLD = b"what was there before\n"

SIDE_BY_SIDE = 4

TRIES = 4
"""So often a client may be harmed before its upload has begun, which proves nothing."""


@dataclass(frozen=True)
class Run:
    """One upload and what happens to it."""

    number: int
    way: str
    sender: Sender
    size: str
    harm: Harm

    @property
    def cell(self) -> tuple[str, str, str]:
        return self.way, self.sender.name, self.harm.name

    @property
    def remote(self) -> str:
        return f"{self.way}-{self.sender.name}-{self.harm.name}-{self.size}-{self.number}"


@dataclass(frozen=True)
class Result:
    """How a run went; no `fault` is well."""

    run: Run
    outcome: str
    fault: str = ""


@dataclass(frozen=True)
class Place:
    """Where runs happen."""

    bucket: Path
    ways: dict[str, Way]
    transcript: Transcript
    contents: dict[str, bytes]


def main() -> int:
    options = parse_arguments()
    scratch = Path(tempfile.mkdtemp(prefix="bucketferry-killed-"))
    try:
        results = list(run_everything(options, scratch))
    finally:
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return show(results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance/killed",
        description="Harms real FTP clients half-way, and looks at what they leave in the store.",
        epilog="The gateway is $BUCKETFERRY_BIN, or target/release/bucketferry.",
    )
    parser.add_argument("--runs", type=int, default=50,
                        help="of each client, harm, size and way (default: %(default)s)")
    parser.add_argument("--client", action="append", choices=[sender.name for sender in SENDERS],
                        help="only this client (repeatable; default: all)")
    parser.add_argument("--harm", action="append", choices=[harm.name for harm in HARMS],
                        help="only this harm (repeatable; default: all)")
    parser.add_argument("--way", action="append", choices=WAYS,
                        help="only this way (repeatable; default: all)")
    parser.add_argument("--settle", metavar="DURATION",
                        help="with this upload.settle instead of the default, to compare")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32),
                        help="of where uploads are cut off")
    parser.add_argument("--keep", action="store_true", help="keep the scratch folder with the log")
    options = parser.parse_args()
    if missing := [program for sender in SENDERS for program in sender.missing()]:
        parser.error(f"not installed: {', '.join(missing)}")
    return options


def run_everything(options: argparse.Namespace, scratch: Path) -> Iterator[Result]:
    print(f"seed {options.seed}", flush=True)
    senders = [kind(scratch) for kind in SENDERS
               if not options.client or kind.name in options.client]
    runs = [
        Run(number, way, sender, size, harm)
        for number in range(options.runs)
        for way in options.way or WAYS
        for sender in senders
        for size in SIZES
        for harm in HARMS
        if not options.harm or harm.name in options.harm
    ]
    with opened(options, scratch) as place, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield from pool.map(lambda run: attempt(run, place, options.seed), runs)


@contextmanager
def opened(options: argparse.Namespace, scratch: Path) -> Iterator[Place]:
    """A gateway on a folder, and each way to it."""
    bucket = scratch / "bucket"
    bucket.mkdir()
    broken_read = scratch / "broken_read.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", broken_read,
                    PROGRAMS / "broken_read.c", "-ldl"], check=True)
    settings = {"BUCKETFERRY_LOG__FORMAT": "json", "BUCKETFERRY_LOG__LEVEL": "debug",
                "BUCKETFERRY_UPLOAD__RESUME_WINDOW": "none"}
    if options.settle:
        settings["BUCKETFERRY_UPLOAD__SETTLE"] = options.settle
    log = scratch / "gateway.log"
    gateway = Gateway(binary(), bucket.as_uri(), settings, log)
    gateway.start()
    with ExitStack() as stack:
        stack.callback(gateway.stop)
        transcript = Transcript(log)
        ways = {}
        for name, delay in WAYS.items():
            proxy = stack.enter_context(proxy_before(gateway.login, delay))
            proxied = replace(gateway.login, port=proxy.port)
            direct = proxied if delay else gateway.login
            ways[name] = Way(scratch, broken_read, transcript, proxy, direct, proxied)
        contents = {name: random.Random(options.seed).randbytes(size) for name, size in SIZES.items()}
        yield Place(bucket, ways, transcript, contents)


def attempt(run: Run, place: Place, seed: int) -> Result:
    try:
        return upload(run, place, random.Random(f"{seed} {run.remote}"))
    except Exception as error:  # whatever went wrong is the result of this run
        return Result(run, "none", f"{type(error).__name__}: {error}")


def upload(run: Run, place: Place, chance: random.Random) -> Result:
    """One upload, of a new name or over an old object; and what is there afterwards."""
    for _ in range(TRIES):
        result = upload_once(run, place, chance)
        if result.outcome != NEVER_BEGUN or run.harm.name == "error":
            break
    return result


def upload_once(run: Run, place: Place, chance: random.Random) -> Result:
    content = place.contents[run.size]
    cut = chance.randrange(len(content) // 4, len(content) * 3 // 4)
    target = place.bucket / run.remote
    old = OLD if run.number % 2 else None
    if old:
        target.write_bytes(old)
    way = place.ways[run.way]
    login = way.login(run.harm.name)
    try:
        with harmed(run.harm, run.sender, login, Upload(run.remote, content, cut), way):
            outcome = place.transcript.outcome_of(run.remote) or NEVER_BEGUN
        return Result(run, outcome, fault(run, outcome, old, content, target))
    finally:
        target.unlink(missing_ok=True)


def fault(run: Run, outcome: str, old: bytes | None, content: bytes, target: Path) -> str:
    """What is wrong with an upload that ended so."""
    found = target.read_bytes() if target.exists() else None
    if run.harm.name == "none":
        return "" if found == content else f"NOT STORED, {outcome}"
    if outcome == NEVER_BEGUN and run.harm.name != "error":
        return "the upload was harmed before it began"
    if looks_whole(run.sender.name, run.harm.name):
        # Or what is said of this client is no longer true.
        return "" if found != old else f"it was discarded, {outcome}"
    if found == old:
        return ""
    if found == content:
        return f"the harm came too late, {outcome}"
    return f"TRUNCATED: {len(found or b'')} of {len(content)} bytes, {outcome}"


def show(results: list[Result]) -> int:
    cells = Counter((result.run.cell, result.outcome) for result in results)
    for cell in dict.fromkeys(result.run.cell for result in results):
        outcomes = [f"{count} {outcome}" for (of, outcome), count in cells.items() if of == cell]
        print("".join(f"{word:<11}" for word in cell) + ", ".join(outcomes))
    print()
    for client, harm in dict.fromkeys(result.run.cell[1:] for result in results):
        if reason := looks_whole(client, harm):
            print(f"published all the same: {client}, {harm}: {reason}")
    for result in results:
        if result.fault:
            print(f"FAIL {result.run.remote}: {result.fault}")
    faults = sum(bool(result.fault) for result in results)
    print(f"\n{len(results)} uploads, {faults} failed")
    return 0 if results and not faults else 1
