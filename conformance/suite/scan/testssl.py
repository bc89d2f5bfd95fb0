"""testssl.sh: protocols, ciphers, forward secrecy and known vulnerabilities."""

import json
from pathlib import Path

from suite.scan.base import Outcome, Scan, ScanError, Target, run

FINE = ("OK", "INFO", "DEBUG")
"""Everything above is a finding, and so is WARN: a test that could not be done."""

MUST_LOOK_AT = {
    "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_NULL", "cipherlist_aNULL",
    "cipherlist_LOW", "cipherlist_STRONG", "PFS", "heartbleed", "CCS", "ROBOT", "secure_renego",
    "secure_client_renego", "CRIME_TLS", "POODLE_SSL", "SWEET32", "FREAK", "DROWN", "LOGJAM",
    "BEAST", "LUCKY13", "RC4", "scanTime",
}

ITS_OWN_FAILURES = 242
"""Exit codes below count what it has noticed, which its report says better."""


def scan_control(target: Target) -> Outcome:
    return scan(target, target.home / "control.json", "-t", "ftp", target.control)


def scan_implicit(target: Target) -> Outcome:
    return scan(target, target.home / "implicit.json", target.implicit)


def scan(target: Target, report: Path, *where: str) -> Outcome:
    said = run(target, "testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none",
               "--jsonfile", str(report), "-p", "-s", "-f", "-U", *where,
               fails_from=ITS_OWN_FAILURES)
    if not report.is_file():
        raise ScanError(f"no report\n{said}")
    entries = json.loads(report.read_text())
    if lacking := MUST_LOOK_AT - {entry["id"] for entry in entries}:
        raise ScanError(f"not looked at: {', '.join(sorted(lacking))}\n{said}")
    bad = [entry for entry in entries if entry["severity"] not in FINE]
    return Outcome(len(entries), [
        f"{entry['severity']} {entry['id']}: {entry['finding']}" for entry in bad])


ALLOWED = {
    "engine_problem": "of the openssl beside testssl, which has no GOST engine; rustls has no such ciphers",
}

SCANS = [
    Scan("testssl, AUTH TLS", scan_control, ALLOWED),
    Scan("testssl, implicit TLS", scan_implicit, ALLOWED),
]
