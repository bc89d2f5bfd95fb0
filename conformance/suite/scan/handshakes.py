"""Handshakes by openssl: what is agreed on, and what is refused, and by whom."""

from suite.scan.base import Outcome, Scan, ScanError, Target, run

OLD = ("-cipher", "ALL:@SECLEVEL=0")
"""Without it the client itself would refuse."""

TAKEN = {
    ("-tls1_3",): "New, TLSv1.3,",
    ("-tls1_2",): "New, TLSv1.2,",
    ("-tls1_3", "-alpn", "ftp"): "ALPN protocol: ftp",
    ("-tls1_2", "-alpn", "ftp"): "ALPN protocol: ftp",
    ("-alpn", "http/1.1,ftp"): "ALPN protocol: ftp",
}
REFUSED = {
    ("-tls1_1", *OLD): ("SSL alert number 40", "SSL alert number 70"),
    ("-tls1", *OLD): ("SSL alert number 40", "SSL alert number 70"),
    ("-tls1_3", "-alpn", "http/1.1"): ("SSL alert number 120",),
    ("-tls1_2", "-alpn", "http/1.1"): ("SSL alert number 120",),
    ("-alpn", "h2,http/1.1"): ("SSL alert number 120",),
    ("-alpn", "smtp"): ("SSL alert number 120",),
}
"""With the alert of the gateway: handshake_failure, protocol_version, no_application_protocol."""


def scan(target: Target) -> Outcome:
    findings = []
    for where in (("-starttls", "ftp", "-connect", target.control),
                  ("-connect", target.implicit)):
        for arguments, wanted in TAKEN.items():
            said = handshake(target, *where, *arguments)
            if wanted not in said or "Verify return code: 0 (ok)" not in said:
                findings.append(f"{' '.join(where + arguments)}: no '{wanted}'\n{said}")
        for arguments, alerts in REFUSED.items():
            said = handshake(target, *where, *arguments)
            if not any(alert in said for alert in alerts):
                findings.append(f"{' '.join(where + arguments)}: not refused\n{said}")
    return Outcome(2 * len(TAKEN | REFUSED), findings)


def handshake(target: Target, *arguments: str) -> str:
    said = run(target, "openssl", "s_client", *arguments, "-CAfile",
               str(target.login.tls.authority), "-verify_ip", target.login.host, fails_from=2)
    if "CONNECTED" not in said:
        raise ScanError(f"no connection: {said}")
    return said


SCANS = [Scan("openssl", scan, {})]
