"""PyFilesystem's contract, tried through its FTP file system.

`FSTestCases` says what every file system of PyFilesystem does, whatever is behind it: local disks
and archives pass it as well. What it asks of a server is what scripts that know POSIX ask.
"""

import unittest
import uuid
import warnings

with warnings.catch_warnings():
    # The package is older than what setuptools and Python say of it today.
    warnings.simplefilter("ignore")
    from fs.base import FS
    from fs.ftpfs import FTPFS
    from fs.test import FSTestCases

from suite.clients.base import Login

LEFT_OUT = {
    "test_open_files":
        "in the middle of an upload it says QUIT, hangs up, and only then ends the data. RFC 959 "
        "has QUIT answered after the transfer, for which it does not wait, and an object is there "
        "after the end of its data, at which this client looks like one that was killed "
        "(test_open_files_and_seek has the rest of the case)",
}
"""Cases of the contract that are not tried, by name, and why."""


class Server(FTPFS):
    """The FTP file system, which does not say of a server whether it tells `a` from `A`."""

    _meta = FTPFS._meta | {"case_insensitive": False}


class Contract(FSTestCases):
    """Every case, each in a directory of its own."""

    login: Login

    def make_fs(self) -> FS:
        login = self.login
        server = Server(login.host, login.user, login.password, port=login.port)
        self.addCleanup(server.close)
        return server.makedir(f"case-{uuid.uuid4().hex}")

    def destroy_fs(self, fs: FS) -> None:
        fs.close()

    def test_open_files_and_seek(self) -> None:
        """What `test_open_files` has besides: reading and writing at a position."""
        self.fs.writebytes("text", b"Hello\nWorld")
        with self.fs.open("text", "rb") as file:
            self.assertEqual(file.read(1), b"H")
            self.assertEqual(file.seek(3), 3)
            self.assertEqual(file.read(1), b"l")
            self.assertEqual(file.seek(-2, 2), 9)
            self.assertEqual(file.read(), b"ld")
        with self.fs.open("text", "r+b") as file:
            self.assertEqual(file.seek(5), 5)
            self.assertEqual(file.truncate(), 5)
            self.assertEqual(file.seek(0), 0)
            self.assertEqual(file.read(), b"Hello")
            self.assertEqual(file.truncate(10), 10)
            self.assertEqual(file.tell(), 5)
        with self.fs.open("text", "r+b") as file:
            self.assertEqual(file.seek(4), 4)
            file.write(b"O")
        # By REST and STOR: the file ends where what was sent ends.
        self.assertEqual(self.fs.readbytes("text"), b"HellO")


def contract(name: str, login: Login) -> unittest.TestSuite:
    """The contract as it is held against one server."""
    left_out = {case: unittest.skip(reason)(getattr(Contract, case))
                for case, reason in LEFT_OUT.items()}
    members = left_out | {"login": login, "__qualname__": name}
    case = type(name, (Contract, unittest.TestCase), members)
    return unittest.defaultTestLoader.loadTestsFromTestCase(case)
