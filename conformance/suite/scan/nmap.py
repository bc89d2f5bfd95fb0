"""nmap's scripts for FTP and TLS, but for those that guess passwords, harm, or ask others."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from suite.scan.base import Outcome, Scan, ScanError, Target, run

SCRIPTS = "(ftp-* or ssl-* or sslv2* or tls-*) and not (brute or dos or external)"

BOUNCE_TO = "127.0.0.2"
"""On loopback, always: by default the script tries it with a host on the internet. And not where
nmap itself is, since there active mode may connect."""

INFORMATION = {"ftp-syst", "ssl-cert", "ssl-date"}
"""Scripts that tell and don't judge."""

MUST_RUN = {
    "ftp": {"ftp-libopie", "ftp-vsftpd-backdoor", "ssl-cert", "ssl-ccs-injection",
            "ssl-dh-params", "ssl-enum-ciphers", "ssl-heartbleed", "ssl-poodle"},
    "ftps": {"ssl-cert", "ssl-ccs-injection", "ssl-dh-params", "ssl-enum-ciphers",
             "ssl-heartbleed", "ssl-poodle"},
}
"""By service. The others only speak if they find something."""


def scan(target: Target) -> Outcome:
    login = target.login
    services = target.home / "nmap-services"
    services.write_text(f"ftp {login.port}/tcp 1\nftps {login.tls.implicit_port}/tcp 1\n")
    report = target.home / "report.xml"
    said = run(
        target, "nmap", "-v", "-Pn", "-n", "-sT", "--datadir", str(target.home),
        "-p", f"{login.port},{login.tls.implicit_port}", "--script", SCRIPTS, "--script-args",
        f"vulns.showall,ftp-bounce.checkhost={BOUNCE_TO},"
        f"ftp-bounce.username={login.user},ftp-bounce.password={login.password}",
        "-oX", str(report), login.host)
    ports = ElementTree.parse(report).findall(".//port")
    expect_all_run(ports, said)
    scripts = [script for port in ports for script in port.findall("script")]
    return Outcome(len(scripts), [finding for script in scripts for finding in judge(script)])


def expect_all_run(ports: list[ElementTree.Element], said: str) -> None:
    for service, wanted in MUST_RUN.items():
        ran = {script.get("id") for port in ports for script in port.findall("script")
               if port.find(f"service[@name='{service}']") is not None}
        if lacking := wanted - ran:
            raise ScanError(f"not run on {service}: {', '.join(sorted(lacking))}\n{said}")
    if len(re.findall(r"\[ftp-bounce\b.*\] PORT response: 5", said)) != len(ports):
        raise ScanError(f"ftp-bounce has not been refused a PORT on each port\n{said}")


def judge(script: ElementTree.Element) -> Iterator[str]:
    name, output = script.get("id", "?"), script.get("output", "").strip()
    states = [element.text for element in script.iter("elem") if element.get("key") == "state"]
    if name == "ssl-enum-ciphers":
        yield from judge_ciphers(script)
    elif states:
        yield from (f"{name}: {state}\n{output}" for state in states if state != "NOT VULNERABLE")
    elif name not in INFORMATION:
        yield f"{name}: {output}"


def judge_ciphers(script: ElementTree.Element) -> Iterator[str]:
    """It grades from A to F, and warns."""
    versions = {table.get("key") for table in script.findall("table")}
    if versions != {"TLSv1.2", "TLSv1.3"}:
        yield f"ssl-enum-ciphers: {', '.join(sorted(map(str, versions)))}"
    for table in script.iter("table"):
        grade = table.find("elem[@key='strength']")
        if grade is not None and grade.text != "A":
            cipher = table.findtext("elem[@key='name']")
            yield f"ssl-enum-ciphers: {cipher}: {grade.text}"
        if table.get("key") == "warnings":
            yield from (f"ssl-enum-ciphers: {warning.text}" for warning in table)


SCANS = [
    Scan("nmap", scan, {
        "tls-ticketbleed: ERROR":
            "the script of nmap 7.93 does not know on which interface a host on loopback is; "
            "the flaw is one of a balancer's own TLS",
    }),
]
