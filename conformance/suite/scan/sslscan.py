"""sslscan, which says by colours what it thinks of each line."""

import re

from suite.scan.base import Outcome, Scan, Target, expect_lines, run

COLOUR = re.compile(r"\x1b\[([0-9;]*)m")
HARMLESS = {"", "0", "32", "1;34"}
"""None, back to none, green for good, blue for headings. Red, yellow and the like are findings."""

ALLOWED = {
    "does not support TLS Fallback SCSV":
        "no version below 1.2 is spoken, and between 1.3 and 1.2 the server's random number tells "
        "(RFC 8446, section 4.1.3)",
    "OpenSSL version does not support compression": "of sslscan itself; testssl tries compression",
    "Rebuild with zlib1g-dev package": "of sslscan itself; testssl tries compression",
}


def scan_control(target: Target) -> Outcome:
    return judge(run(target, "sslscan", "--starttls-ftp", target.control))


def scan_implicit(target: Target) -> Outcome:
    return judge(run(target, "sslscan", target.implicit))


def judge(said: str) -> Outcome:
    plain = COLOUR.sub("", said)
    expect_lines(plain, "SSLv2     disabled", "SSLv3     disabled", "TLSv1.0   disabled",
                 "TLSv1.1   disabled", "TLSv1.2   enabled", "TLSv1.3   enabled",
                 "TLS renegotiation:", "not vulnerable to heartbleed", "Preferred TLSv1.3",
                 "Preferred TLSv1.2", "Not valid after:")
    lines = [line for line in said.splitlines() if COLOUR.sub("", line).strip()]
    bad = [line for line in lines if not HARMLESS.issuperset(COLOUR.findall(line))]
    return Outcome(len(lines), [COLOUR.sub("", line).strip() for line in bad])


SCANS = [
    Scan("sslscan, AUTH TLS", scan_control, ALLOWED),
    Scan("sslscan, implicit TLS", scan_implicit, ALLOWED),
]
