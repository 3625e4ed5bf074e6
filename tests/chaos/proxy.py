"""A proxy between peers and the session manager that breaks and delays connections: `proxy LISTEN TARGET SEED`.

Both are paths of Unix sockets, or `host:port`. It reads commands from its standard input: `cut` ends about half of the
connections at whatever byte they are, `stall MS` forwards nothing for so long, each way of each connection or not, by
chance.
"""

import asyncio
import os
import sys
from contextlib import suppress
from random import Random

_BLOCK_BYTES = 1 << 16


class Proxy:
    """The connections there are, and what is done to them."""

    def __init__(self, target: str, seed: int) -> None:
        self._target = target
        self._chance = Random(seed)
        self._writers: dict[asyncio.StreamWriter, None] = {}
        self._until: dict[asyncio.StreamWriter, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A peer connects: it is connected to the session manager, or dropped."""
        try:
            there_reader, there_writer = await _connect(self._target)
        except OSError:
            writer.transport.abort()
            return
        for source, target, other in ((reader, there_writer, writer), (there_reader, writer, there_writer)):
            self._writers[target] = None
            task = asyncio.create_task(self._forward(source, target, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, other: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while block := await source.read(_BLOCK_BYTES):
                while (left_s := self._until.get(target, 0.0) - loop.time()) > 0:
                    await asyncio.sleep(left_s)
                target.write(block)
                await target.drain()
        self._writers.pop(target, None)
        self._until.pop(target, None)
        target.close()  # what was written before still goes out
        if not source.at_eof():
            other.transport.abort()

    def command(self, line: str) -> None:
        """Do what the standard input says."""
        word, _, value = line.strip().partition(" ")
        chosen = [writer for writer in self._writers if self._chance.random() < 0.5]
        for writer in chosen:
            if word == "cut":
                writer.transport.abort()
            else:
                self._until[writer] = asyncio.get_running_loop().time() + int(value) / 1000


async def _connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("/"):
        return await asyncio.open_unix_connection(address)
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _main(listen: str, target: str, seed: int) -> None:
    proxy = Proxy(target, seed)
    if listen.startswith("/"):
        with suppress(FileNotFoundError):
            os.unlink(listen)
        await asyncio.start_unix_server(proxy.accepted, listen)
    else:
        host, _, port = listen.rpartition(":")
        await asyncio.start_server(proxy.accepted, host, int(port))
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        proxy.command(line.decode())


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
