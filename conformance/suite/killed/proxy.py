"""A middlebox between client and gateway: it holds everything back for a while, and resets what it is told to.

It understands FTP as far as it must: the port in a 227 or 229 becomes one of its own, and the name in a STOR is how
its tests call a session. It runs as a process of its own, so that nobody's work delays it: `python3 proxy.py HOST
PORT MILLISECONDS` prints the port where it listens, and then takes the names of sessions to reset, a line each.
"""

import asyncio
import contextlib
import re
import socket
import struct
import sys
import threading

HOST = "127.0.0.1"
BLOCK = 256 * 1024
IN_FLIGHT = 64
"""Blocks that are held back at once, in each direction of each connection."""

PASV = re.compile(rb"^227 [^(]*\((\d+),(\d+),(\d+),(\d+),(\d+),(\d+)\)", re.MULTILINE)
EPSV = re.compile(rb"^229 [^(]*\(\|\|\|(\d+)\|\)", re.MULTILINE)
STOR = re.compile(rb"^STOR /?(\S+)", re.MULTILINE)


class Connection:
    """Two sockets, and what is on its way between them."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.ends = (client, server)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change=None) -> None:
        """One direction, to its end: what comes is passed on later, the end and a reset too."""
        on_its_way: asyncio.Queue = asyncio.Queue(IN_FLIGHT)
        passing = asyncio.create_task(self.deliver(on_its_way, writer))
        loop = asyncio.get_running_loop()
        block = None
        while block != b"":
            try:
                block = await reader.read(BLOCK)
            except OSError:
                block = None
            due = loop.time() + self.proxy.delay
            if block and change:
                block = await change(block)
            await on_its_way.put((due, block))
            if block is None:
                break
        await passing

    async def deliver(self, on_its_way: asyncio.Queue, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        block = None
        while block != b"":
            due, block = await on_its_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            try:
                if block is None:
                    return self.reset()
                if block:
                    writer.write(block)
                    await writer.drain()
                else:
                    writer.write_eof()
            except OSError:
                return self.reset()

    def reset(self) -> None:
        for end in self.ends:
            with contextlib.suppress(OSError):
                raw = end.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()


class Proxy:
    """Listens for control connections; each brings its data connections with it."""

    def __init__(self, host: str, port: int, delay: float) -> None:
        self.target = (host, port)
        self.delay = delay
        self.tasks: set[asyncio.Task] = set()
        self.sessions: dict[str, list[Connection]] = {}

    async def run(self) -> None:
        server = await asyncio.start_server(self.control, HOST, 0, limit=BLOCK)
        print(server.sockets[0].getsockname()[1], flush=True)
        loop = asyncio.get_running_loop()
        threading.Thread(target=self.obey, args=(loop,), daemon=True).start()
        await server.serve_forever()

    def obey(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(self.reset, line.strip())
        loop.call_soon_threadsafe(loop.stop)

    def reset(self, name: str) -> None:
        """The data connection first, as all does that ends."""
        for connection in reversed(self.sessions.pop(name, [])):
            connection.reset()

    def keep(self, task: asyncio.Task) -> None:
        """The loop itself would let go of a task that only waits."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections: list[Connection] = []

        async def replies(block: bytes) -> bytes:
            return await self.with_own_port(block, connections)

        async def commands(block: bytes) -> bytes:
            if name := STOR.search(block):
                self.sessions[name[1].decode()] = connections
            return block

        await self.join(self.target, reader, writer, connections, commands, replies)

    async def join(self, target, reader, writer, connections, commands=None, replies=None) -> None:
        """Connects, after a while, and carries both directions."""
        self.keep(asyncio.current_task())
        await asyncio.sleep(self.delay)
        try:
            server_reader, server_writer = await asyncio.open_connection(*target, limit=BLOCK)
        except OSError:
            writer.transport.abort()
            return
        for end in (writer, server_writer):
            raw = end.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, writer, server_writer)
        connections.append(connection)
        await asyncio.gather(connection.carry(reader, server_writer, commands),
                             connection.carry(server_reader, writer, replies))
        for end in connection.ends:
            end.close()

    async def with_own_port(self, block: bytes, connections: list[Connection]) -> bytes:
        """A reply that names a port, with one of ours instead."""
        if match := EPSV.search(block):
            port = await self.listen(int(match[1]), connections)
            return block[:match.start(1)] + str(port).encode() + block[match.end(1):]
        if match := PASV.search(block):
            port = await self.listen(int(match[5]) << 8 | int(match[6]), connections)
            address = f"127,0,0,1,{port >> 8},{port & 255}".encode()
            return block[:match.start(1)] + address + block[match.end(6):]
        return block

    async def listen(self, port: int, connections: list[Connection]) -> int:
        async def data(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            listener.close()
            await self.join((self.target[0], port), reader, writer, connections)

        listener = await asyncio.start_server(data, HOST, 0, limit=BLOCK)
        return listener.sockets[0].getsockname()[1]


if __name__ == "__main__":
    with contextlib.suppress(RuntimeError, KeyboardInterrupt):
        asyncio.run(Proxy(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000).run())
