"""An authority and the gateway's certificate, made on the spot by the openssl program."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = """
[req]
distinguished_name = name

[name]

[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash

[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class CertificateError(Exception):
    """There is no certificate."""


@dataclass(frozen=True)
class Certificate:
    """For localhost and 127.0.0.1, for a week."""

    authority: Path
    certificate: Path
    private_key: Path

    @classmethod
    def make(cls, home: Path) -> "Certificate":
        home.mkdir()
        (home / "openssl.cnf").write_text(CONFIGURATION)
        _request(home, "authority", "Conformance authority")
        _request(home, "server", "localhost", "-CA", "authority.pem", "-CAkey", "authority.key")
        return cls(home / "authority.pem", home / "server.pem", home / "server.key")

    def settings(self, require: str, require_session_reuse: bool = False) -> dict[str, str]:
        """What the gateway's environment must say."""
        return {
            "BUCKETFERRY_TLS__CERTIFICATE": str(self.certificate),
            "BUCKETFERRY_TLS__PRIVATE_KEY": str(self.private_key),
            "BUCKETFERRY_TLS__REQUIRE": require,
            "BUCKETFERRY_TLS__REQUIRE_SESSION_REUSE": str(require_session_reuse).lower(),
        }


def _request(home: Path, role: str, name: str, *signed_by: str) -> None:
    command = [
        "openssl", "req", "-x509", "-config", "openssl.cnf", "-extensions", role, "-days", "7",
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", f"/CN={name}", "-keyout", f"{role}.key", "-out", f"{role}.pem", *signed_by,
    ]
    try:
        subprocess.run(command, cwd=home, check=True, stdin=subprocess.DEVNULL,
                       capture_output=True)
    except FileNotFoundError:
        raise CertificateError("openssl is not installed (apt-get install openssl)") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace")
        raise CertificateError(f"openssl failed: {said}") from error
