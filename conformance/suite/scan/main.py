"""The command line of the scans, and the order in which things happen."""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from suite.certificate import Certificate, CertificateError
from suite.gateway import Gateway, GatewayError, binary
from suite.scan import eavesdrop, handshakes, nmap, sslscan, testssl
from suite.scan.base import ACTIVE, MissedError, Outcome, Scan, Target

SCANS: list[Scan] = [*testssl.SCANS, *sslscan.SCANS, *nmap.SCANS, *handshakes.SCANS]
"""The slowest first: they run side by side."""

LISTENING = {
    "heard, require = none": eavesdrop.all_in_clear,
    "heard, require = control": eavesdrop.password_hidden,
    "heard, require = all": eavesdrop.all_hidden,
}
"""Each with a gateway of its own."""

HEARINGS = 3
"""How often it is listened to, at most, if each of the captures has gaps."""


@dataclass
class Result:
    """How one scan went."""

    name: str
    seconds: float
    looked_at: int = 0
    failures: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)


def main() -> int:
    options = parse_arguments()
    scratch = Path(tempfile.mkdtemp(prefix="bucketferry-scan-"))
    try:
        results = list(scan_everything(options, scratch))
    finally:
        if options.keep:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    show(results)
    return 0 if results and not any(result.failures for result in results) else 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance/scan",
        description="Lets scanners look for weaknesses of the gateway, on loopback only.",
        epilog="The gateway is $BUCKETFERRY_BIN, or target/release/bucketferry.",
    )
    parser.add_argument("--only", action="append", metavar="TEXT",
                        help="only scans with TEXT in their name (repeatable; default: all)")
    parser.add_argument("--keep", action="store_true",
                        help="keep the scratch folder with logs and reports")
    return parser.parse_args()


def scan_everything(options: argparse.Namespace, scratch: Path) -> Iterator[Result]:
    wanted = options.only or [""]
    for name, listen in LISTENING.items():
        if any(text in name for text in wanted):
            yield try_listening(name, listen, scratch / name)
    chosen = [scan for scan in SCANS if any(text in scan.name for text in wanted)]
    if chosen:
        yield from try_scanners(chosen, scratch / "scanned")


def try_listening(name: str, listen: Callable[[Path], Outcome], home: Path) -> Result:
    home.mkdir()
    started = time.monotonic()
    try:
        outcome = hear(listen, home)
    except Exception as error:  # whatever went wrong is the result of this scan
        return failed(name, started, error)
    return Result(name, time.monotonic() - started, outcome.looked_at, outcome.findings)


def hear(listen: Callable[[Path], Outcome], home: Path) -> Outcome:
    for hearing in range(1, HEARINGS):
        try:
            return listen(home / str(hearing))
        except MissedError as error:
            print(f"heard again: {error}", flush=True)
    return listen(home / str(HEARINGS))


def try_scanners(scans: list[Scan], home: Path) -> Iterator[Result]:
    """All of them at the same gateway, which must survive that and end as it should."""
    (home / "bucket").mkdir(parents=True)
    started = time.monotonic()
    try:
        certificate = Certificate.make(home / "certificate")
        settings = certificate.settings("all", require_session_reuse=True) | ACTIVE
        gateway = Gateway(binary(), (home / "bucket").as_uri(), settings, home / "gateway.log",
                          certificate.authority)
        gateway.start()
        try:
            with ThreadPoolExecutor(len(scans)) as pool:
                yield from pool.map(lambda scan: try_scan(scan, gateway, home), scans)
        finally:
            gateway.stop()
    except (CertificateError, GatewayError) as error:
        yield failed("gateway", started, error)


def try_scan(scan: Scan, gateway: Gateway, home: Path) -> Result:
    place = home / scan.name
    place.mkdir()
    started = time.monotonic()
    try:
        outcome = scan.run(Target(gateway.login, place))
    except Exception as error:  # whatever went wrong is the result of this scan
        return failed(scan.name, started, error)
    return sort(scan, outcome, time.monotonic() - started)


def failed(name: str, started: float, error: Exception) -> Result:
    said = f"{type(error).__name__}: {error}"
    return Result(name, time.monotonic() - started, failures=[said])


def sort(scan: Scan, outcome: Outcome, seconds: float) -> Result:
    """What is allowed, with its reason, and what is not."""
    result = Result(scan.name, seconds, outcome.looked_at)
    for finding in outcome.findings:
        reasons = [reason for text, reason in scan.allowed.items() if text in finding]
        if reasons:
            result.allowed.append(f"{finding} ({reasons[0]})")
        else:
            result.failures.append(finding)
    return result


def show(results: list[Result]) -> None:
    for result in results:
        for failure in result.failures:
            print(f"\nFAIL {result.name}")
            print("\n".join(f"    {line}" for line in failure.splitlines()))
    print()
    for result in results:
        mark = "FAIL" if result.failures else "ok"
        looked = f"{result.looked_at:5} looked at {result.seconds:6.1f} s"
        print(f"  {result.name:<24} {mark:<4} {looked}")
    for line in dict.fromkeys(f"{result.name.split(',')[0]}: {line}"
                              for result in results for line in result.allowed):
        print(f"allowed: {line}")
    failed = sum(bool(result.failures) for result in results)
    print(f"\n{len(results) - failed} passed, {failed} failed")
