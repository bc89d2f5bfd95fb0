"""The cases: each is something people do with an FTP client, checked in the store itself."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from suite.clients.base import Client, ClientError
from suite.clients.python import Resuming, connect
from suite.stores import Store

TOP = "/conformance"
"""Everything the suite stores lies under this directory, a folder per client and case."""

KIB = 1024
MIB = 1024 * KIB

NAMES = {
    "spaces": "two  spaces and one.txt",
    "umlauts": "äöü ÄÖÜ ß €.txt",
    "percent": "100%25 of %2e %.txt",
    "hash": "number #1#.txt",
    "tilde": "~tilde~.txt",
    "single-quotes": "it's 'quoted'.txt",
    "double-quotes": 'she said "quoted".txt',
    "200-characters": "long-" * 39 + "n.txt",
    "leading-dash": "-dash.txt",
    "brackets": "[draft] (2) {x}.txt",
    "symbols": "a&b+c;d=e,f@g!h$i^j.txt",
}


class Failure(Exception):
    """The client is content, but the store or the client's result is not as it must be."""


@dataclass(frozen=True)
class Case:
    """A named case."""

    name: str
    run: "Callable[[Place], None]"


class Place:
    """Where one case happens: a directory of its own on the server, with one file in it."""

    def __init__(self, client: Client, store: Store, case: Case, home: Path) -> None:
        self.client = client
        self.store = store
        self.directory = f"{TOP}/{client.name}/{case.name}"
        self.folder = home / case.name
        self.folder.mkdir()
        self.put("keep", b"this file makes the directory exist")

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def put(self, name: str, data: bytes) -> None:
        self.store.put(self.path(name), data)

    def local(self, data: bytes, name: str = "local.bin") -> Path:
        file = self.folder / name
        file.write_bytes(data)
        return file

    def upload(self, name: str, data: bytes) -> None:
        self.client.upload(self.local(data), self.path(name))

    def fetch(self, name: str) -> bytes:
        local = self.folder / "fetched.bin"
        local.unlink(missing_ok=True)
        self.client.download(self.path(name), local)
        return local.read_bytes()

    def expect(self, **stored: bytes) -> None:
        self.expect_all(stored)

    def expect_all(self, stored: dict[str, bytes]) -> None:
        """The store holds these and `keep`, byte for byte, and nothing else."""
        expect_same("the keys in the store", self.store.keys(self.directory), {*stored, "keep"})
        for name, data in stored.items():
            expect_bytes(name, self.store.get(self.path(name)), data)


def upload_of(size: int) -> Callable[[Place], None]:
    def upload(place: Place) -> None:
        data = content(size)
        place.upload("new.bin", data)
        place.expect_all({"new.bin": data})
    return upload


def download_of(size: int) -> Callable[[Place], None]:
    def download(place: Place) -> None:
        data = content(size)
        place.put("old.bin", data)
        expect_bytes("the download", place.fetch("old.bin"), data)
        place.expect_all({"old.bin": data})
    return download


def overwrite(place: Place) -> None:
    """With something shorter, of which nothing of the old may be left."""
    place.put("file.bin", content(200 * KIB))
    data = content(3 * KIB, seed=2)
    place.upload("file.bin", data)
    place.expect_all({"file.bin": data})
    expect_bytes("the download", place.fetch("file.bin"), data)


def resume_download(place: Place) -> None:
    """The first part differs from the server's, so that a client which starts over is found out."""
    data = content(3 * MIB)
    place.put("old.bin", data)
    first = b"#" * MIB
    local = place.local(first)
    place.client.resume_download(place.path("old.bin"), local)
    expect_bytes("the download", local.read_bytes(), first + data[MIB:])


def resume_upload(place: Place) -> None:
    """As for the download: the server's first part differs, and must stay."""
    first = b"#" * 6 * MIB
    place.put("part.bin", first)
    data = content(7 * MIB)
    place.client.resume_upload(place.local(data), place.path("part.bin"))
    place.expect_all({"part.bin": first + data[6 * MIB:]})


def resume_after_cut(place: Place) -> None:
    """An upload dies in the middle; what is kept of it is seen by nobody, and gone on with.

    As above, the first part differs, so that a client or server which starts over is found out.
    """
    data = content(7 * MIB)
    kept = cut_off_upload(place, "part.bin", b"#" * 6 * MIB)
    # In a folder, what is being made has a name that no listing shows.
    seen = {key for key in place.store.keys(place.directory) if not key.startswith("part.bin#")}
    expect_same("the keys in the store", seen, {"keep"})
    expect_same("the listing", place.client.list(place.directory), {"keep"})
    place.client.resume_upload(place.local(data), place.path("part.bin"))
    place.expect_all({"part.bin": b"#" * kept + data[kept:]})


def cut_off_upload(place: Place, name: str, sent: bytes) -> int:
    """Loses a client in the middle of an upload; how much of it is kept."""
    login, path = place.client.login, place.path(name)
    with connect(login, Resuming) as ftp:
        ftp.voidcmd("TYPE I")
        with ftp.transfercmd(f"STOR {path}") as data:
            data.sendall(sent)
            time.sleep(0.5)
            ftp.close()
    with connect(login, Resuming) as ftp:
        ftp.voidcmd("TYPE I")
        kept = ftp.size(path)
    if not kept or kept > len(sent):
        raise Failure(f"kept of the upload that was cut off: {kept} bytes")
    return kept


def append(place: Place) -> None:
    place.put("log.txt", b"first line\r\n")
    place.client.append(place.local(b"second line\r\n"), place.path("log.txt"))
    place.expect_all({"log.txt": b"first line\r\nsecond line\r\n"})


def append_to_large(place: Place) -> None:
    """Where the store keeps what is there, it does so in parts."""
    first, more = content(12 * MIB), content(MIB, seed=2)
    place.upload("log.bin", first)
    place.client.append(place.local(more), place.path("log.bin"))
    place.expect_all({"log.bin": first + more})


def download_missing(place: Place) -> None:
    """The client must hear of it."""
    expect_refusal(lambda: place.fetch("missing.bin"))
    place.expect()


def list_directory(place: Place) -> None:
    fill_for_listing(place)
    listed = place.client.list(place.directory)
    expect_same("the listing", listed, {"keep", "one.txt", "two.bin", "sub"})


def list_with_flags(place: Place) -> None:
    fill_for_listing(place)
    listed = place.client.list_with_flags(place.directory)
    expect_same("the listing", listed, {"keep", "one.txt", "two.bin", "sub"})


def fill_for_listing(place: Place) -> None:
    place.put("one.txt", b"1")
    place.put("two.bin", content(2 * KIB))
    place.put("sub/three.txt", b"333")


def rename(place: Place) -> None:
    data = content(10 * KIB)
    place.put("before.bin", data)
    place.client.rename(place.path("before.bin"), place.path("after.bin"))
    place.expect_all({"after.bin": data})


def rename_into_directory(place: Place) -> None:
    data = content(10 * KIB)
    place.put("file.bin", data)
    place.put("done/earlier.bin", b"earlier")
    place.client.rename(place.path("file.bin"), place.path("done/file.bin"))
    place.expect_all({"done/earlier.bin": b"earlier", "done/file.bin": data})


def rename_directory(place: Place) -> None:
    place.put("before/one.bin", b"one")
    place.put("before/deep/two.bin", b"two")
    place.client.rename(place.path("before"), place.path("after"))
    place.expect_all({"after/one.bin": b"one", "after/deep/two.bin": b"two"})


def rename_large_directory(place: Place) -> None:
    """With an empty one in it, which goes along."""
    files = {f"{index % 3}/{index}.bin": content(index, index) for index in range(120)}
    for name_, data in files.items():
        place.put(f"before/{name_}", data)
    place.client.mkdir(place.path("before/empty"))
    place.client.rename(place.path("before"), place.path("after"))
    expect_same("the keys in the store", place.store.keys(place.directory),
                {"keep", "after/empty/", *(f"after/{name_}" for name_ in files)})
    for name_, data in files.items():
        expect_bytes(name_, place.store.get(place.path(f"after/{name_}")), data)


def delete(place: Place) -> None:
    place.put("unwanted.bin", b"away with it")
    place.client.delete(place.path("unwanted.bin"))
    place.expect()


def delete_last(place: Place) -> None:
    """Whoever fetches files and deletes them looks for more in the same directory."""
    place.put("inbox/only.bin", b"fetched")
    place.client.delete(place.path("inbox/only.bin"))
    expect_same("the listing", place.client.list(place.path("inbox")), set())
    expect_same("the listing above", place.client.list(place.directory), {"keep", "inbox"})


def odd_keys(place: Place) -> None:
    """What can't be said is left out; it hides nothing, and keeps its directory."""
    place.put("sub/plain.txt", b"plain")
    for key in place.store.odd_keys:
        place.put(f"sub/{key}", b"odd")
    shown = {"plain.txt", *(["deep"] if "deep//file" in place.store.odd_keys else [])}
    expect_same("the listing", place.client.list(place.path("sub")), shown)
    place.client.delete(place.path("sub/plain.txt"))
    expect_refusal(lambda: place.client.rmdir(place.path("sub")))
    expect_same("the keys in the store", place.store.keys(place.path("sub")),
                set(place.store.odd_keys))


def mkdir(place: Place) -> None:
    """Made, listed, and listed as empty."""
    place.client.mkdir(place.path("new"))
    expect_same("the keys in the store", place.store.keys(place.directory), {"keep", "new/"})
    expect_same("the listing", place.client.list(place.directory), {"keep", "new"})
    expect_same("the listing of the new one", place.client.list(place.path("new")), set())


def mkdir_existing(place: Place) -> None:
    """Also one that nobody has made: a file in it is enough."""
    place.put("full/file.bin", b"precious")
    place.client.mkdir(place.path("made"))
    for taken in ("full", "made", "keep"):
        expect_refusal(lambda taken=taken: place.client.mkdir(place.path(taken)))


def rmdir(place: Place) -> None:
    place.client.mkdir(place.path("short-lived"))
    place.client.rmdir(place.path("short-lived"))
    place.expect()


def rmdir_not_empty(place: Place) -> None:
    """The client must hear of it, and the file must stay."""
    place.put("full/file.bin", b"precious")
    expect_refusal(lambda: place.client.rmdir(place.path("full")))
    place.expect_all({"full/file.bin": b"precious"})


def upload_into_new_directory(place: Place) -> None:
    data = content(5 * KIB)
    place.client.mkdir(place.path("new"))
    place.upload("new/file.bin", data)
    place.expect_all({"new/file.bin": data})
    expect_same("the listing", place.client.list(place.path("new")), {"file.bin"})


def name(text: str) -> Callable[[Place], None]:
    """A whole life of a file under a name, and a directory of that name."""
    def live(place: Place) -> None:
        data = content(KIB)
        place.upload(text, data)
        place.expect_all({text: data})
        expect_same("the listing", place.client.list(place.directory), {"keep", text})
        expect_bytes("the download", place.fetch(text), data)
        if place.store.renames:
            place.client.rename(place.path(text), place.path("plain"))
            place.expect_all({"plain": data})
            place.client.rename(place.path("plain"), place.path(text))
            place.expect_all({text: data})
        place.client.delete(place.path(text))
        place.client.mkdir(place.path(text))
        place.upload(f"{text}/inside", data)
        place.expect_all({f"{text}/inside": data})
        place.client.delete(place.path(f"{text}/inside"))
        place.client.rmdir(place.path(text))
        place.expect()
    return live


CASES = [
    Case("upload", upload_of(100 * KIB)),
    Case("upload-0-bytes", upload_of(0)),
    Case("upload-1-byte", upload_of(1)),
    Case("upload-20-mib", upload_of(20 * MIB)),
    Case("overwrite", overwrite),
    Case("append", append),
    Case("append-to-large", append_to_large),
    Case("resume-upload", resume_upload),
    Case("resume-after-cut", resume_after_cut),
    Case("download", download_of(100 * KIB)),
    Case("download-0-bytes", download_of(0)),
    Case("download-20-mib", download_of(20 * MIB)),
    Case("download-missing", download_missing),
    Case("resume-download", resume_download),
    Case("list", list_directory),
    Case("list-with-flags", list_with_flags),
    Case("rename", rename),
    Case("rename-into-directory", rename_into_directory),
    Case("rename-directory", rename_directory),
    Case("rename-large-directory", rename_large_directory),
    Case("delete", delete),
    Case("delete-last", delete_last),
    Case("odd-keys", odd_keys),
    Case("mkdir", mkdir),
    Case("mkdir-existing", mkdir_existing),
    Case("rmdir", rmdir),
    Case("rmdir-not-empty", rmdir_not_empty),
    Case("upload-into-new-directory", upload_into_new_directory),
    *(Case(f"name-{kind}", name(text)) for kind, text in NAMES.items()),
]


def content(size: int, seed: int = 1) -> bytes:
    """All byte values, the same in each run."""
    return random.Random(seed).randbytes(size)


def expect_bytes(what: str, found: bytes | None, wanted: bytes) -> None:
    if found is None:
        raise Failure(f"{what}: not there")
    if found != wanted:
        pairs = enumerate(zip(found, wanted, strict=False))
        at = next((i for i, (one, other) in pairs if one != other), "the end")
        raise Failure(f"{what}: {len(found)} bytes instead of {len(wanted)}, differ at {at}")


def expect_same(what: str, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        lacking, extra = sorted(wanted - found), sorted(found - wanted)
        raise Failure(f"{what}: lacking {lacking}, unexpected {extra}")


def expect_refusal(attempt: Callable[[], object]) -> None:
    try:
        attempt()
    except ClientError:
        return
    raise Failure("the client reports success")
