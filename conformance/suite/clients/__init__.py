"""One driver per client: what a person or a script types into it, and nothing cleverer."""

from suite.clients.base import Client
from suite.clients.curl import Curl, CurlImplicit, CurlTls12
from suite.clients.lftp import Lftp
from suite.clients.ncftp import Ncftp
from suite.clients.python import PythonFtplib, PythonResuming
from suite.clients.rclone import Rclone
from suite.clients.tnftp import Tnftp

CLIENTS: list[type[Client]] = [
    Curl, CurlTls12, CurlImplicit, Lftp, Tnftp, Ncftp, PythonFtplib, PythonResuming, Rclone,
]
