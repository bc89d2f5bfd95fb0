"""Uploads standard input with ftplib. The word THROW at its end is an exception in the middle of it."""

import ftplib
import sys

host, port, user, password, remote = sys.argv[1:]


class Source:
    """Whatever has come, as it comes."""

    def read(self, size: int) -> bytes:
        block = sys.stdin.buffer.raw.read(size)
        if block.endswith(b"THROW"):
            raise RuntimeError("the source has failed")
        return block


ftp = ftplib.FTP()
ftp.connect(host, int(port))
ftp.login(user, password)
ftp.storbinary(f"STOR {remote}", Source())
ftp.quit()
