"""The life of a store whose system calls are recorded, and what it has to hold after each step of it.

As a program it lives that life and says each step that is done on its standard output, as a session manager would
acknowledge it. Arguments: the directory, seed, number of steps, how it fails (see `FAILURES`), step to begin with.
"""

import hashlib
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from flame.model.limits import BLOCK_TASKS, KIB
from flame.model.records import (
    ApplicationRecord,
    BindingRecord,
    BlockRecord,
    DeathsRecord,
    DeleteApplication,
    DeleteBinding,
    DeleteSession,
    PutApplication,
    PutBinding,
    PutBlock,
    PutDeaths,
    Write,
)
from flame.model.specs import ApplicationSpec
from flame.stores.memory import MemoryStore
from flame.stores.port import Store
from flame.stores.sqlite import SqliteStore
from tests.stores.conformance import (
    put_blob,
    put_cancelled,
    put_chunk,
    put_output,
    put_segment,
    put_session,
    read_all,
)

CHECKPOINT_BYTES: Final = 512 * KIB
RESERVE_BYTES: Final = 64 * KIB
FAILURES: Final = {"": "", "normal": "PRAGMA synchronous=NORMAL", "off": "PRAGMA synchronous=OFF", "early": ""}
"""How a store may break its promise, to show that this is found: what it tells SQLite; `early` acknowledges before it
commits."""


class Open(msgspec.Struct, frozen=True):
    """The store is opened: for the first time, after an orderly close, or by another process after a kill."""

    killed: bool = False


class Commit(msgspec.Struct, frozen=True):
    """One commit, and the checkpoint that may be due after it."""

    writes: tuple[Write, ...]


class Purge(msgspec.Struct, frozen=True):
    """A batch of rows of deleted sessions goes."""

    limit_bytes: int


Step = Open | Commit | Purge


def life(seed: int, count: int) -> list[Step]:
    """The `count` steps of a seed: always the same ones."""
    return list(_Life(random.Random(seed)).steps(count))


class _Life:
    """Makes up steps that a session manager could take."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.live: dict[int, tuple[int, int, int]] = {}
        """Per live session: the next task, the next task without an outcome, the last sequence."""
        self.last_session = 0

    def steps(self, count: int) -> Iterator[Step]:
        yield Open()
        for number in range(1, count):
            kind = self.rng.random()
            if number % 50 == 49:
                yield Open(killed=number % 100 == 49)
            elif kind < 0.1:
                yield Purge(self.rng.choice((1, 2_000, 100_000)))
            else:
                yield Commit(tuple(write for _ in range(self.rng.choice((1, 1, 2, 6))) for write in self._writes()))

    def _writes(self) -> list[Write]:
        rng = self.rng
        kind = rng.random()
        if len(self.live) < 2 or kind < 0.03:
            self.last_session += 1
            number = self.last_session
            self.live[number] = (1, 1, 0)
            return [put_session(number), PutBlock(BlockRecord(session=number, first=1, key=f"key-{number}"))]
        number = rng.choice(list(self.live))
        task, unfinished, sequence = self.live[number]
        if kind < 0.06:
            del self.live[number]
            return [DeleteSession(number)]
        if kind < 0.16:
            return [_something_small(rng, number)]
        if kind < 0.6 or unfinished == task:
            count = rng.choice((1, 7, 300))
            self.live[number] = (task + count, unfinished, sequence)
            big = count == 1 and rng.random() < 0.5
            return [put_blob(number, task, rng.randrange(100_000)) if big else put_chunk(number, task, count)]
        count = rng.randint(1, min(task - unfinished, 400))
        self.live[number] = (task, unfinished + count, sequence + 1)
        if count == 1:
            return [put_output(number, sequence + 1, unfinished, rng.randrange(60_000))]
        put = put_cancelled if kind > 0.95 else put_segment
        return [put(number, sequence + 1, unfinished, count)]


def _something_small(rng: random.Random, session: int) -> Write:
    name = f"name-{rng.randrange(4)}"
    binding = BindingRecord(executor=name, node="n", session=session, binding=rng.getrandbits(60), created_ms=1)
    spec = ApplicationSpec(description="x" * rng.randrange(3_000))
    choices: tuple[Write, ...] = (
        PutBinding(binding),
        DeleteBinding(name),
        PutApplication(ApplicationRecord(name=name, spec=spec, created_ms=1)),
        DeleteApplication(name),
        PutBlock(BlockRecord(session=session, first=1 + BLOCK_TASKS * rng.randrange(1, 9), key=name)),
        PutDeaths(DeathsRecord(session=session, task=rng.randrange(1, 9), count=rng.randrange(1, 4))),
    )
    return rng.choice(choices)


def contents(store: Store) -> bytes:
    """A digest of everything that can be read from a store."""
    snapshot = store.recover()
    digest = hashlib.blake2b(msgspec.msgpack.encode(snapshot))
    for chunk in snapshot.chunks:
        for column in store.read_inputs(chunk.session, chunk.first, chunk.count):
            digest.update(column)
    for session in snapshot.sessions:
        digest.update(msgspec.msgpack.encode(read_all(store, session.number)))
    return digest.digest()


def contents_after_each(steps: list[Step]) -> list[bytes]:
    """The digest of a store after 0, 1, 2, ... of these steps, by the store in memory."""
    store = MemoryStore()
    epoch = store.open()
    found = [contents(store)]
    for step in steps:
        if isinstance(step, Commit):
            store.commit(epoch, step.writes)
        found.append(contents(store) if isinstance(step, Commit) else found[-1])
    return found


class _Store(SqliteStore):
    """The durable store, which may be told to break its promise."""

    failure = ""

    def _connect(self) -> None:
        super()._connect()
        if FAILURES[self.failure]:
            self._open_connection().execute(FAILURES[self.failure])


def open_store(directory: Path, failure: str = "") -> SqliteStore:
    """A store in a directory with small bounds, not open."""
    store = _Store(directory, reserve_bytes=RESERVE_BYTES, checkpoint_bytes=CHECKPOINT_BYTES)
    store.failure = failure
    return store


def main(directory: str, seed: str, count: str, failure: str, begin: str) -> None:
    """Live from a step on; a kill is this process without a word being another one."""
    store, epoch = open_store(Path(directory), failure), 0
    for number, step in enumerate(life(int(seed), int(count))):
        if number < int(begin):
            continue
        if isinstance(step, Open) and step.killed and number > int(begin):
            again = [sys.executable, "-m", "tests.stores.power_cut_workload"]
            os.execv(again[0], [*again, directory, seed, count, failure, str(number)])
        if failure == "early":
            _acknowledge(number, epoch + isinstance(step, Open))
        if isinstance(step, Open):
            store.close()
            epoch = store.open()
        elif isinstance(step, Commit):
            store.commit(epoch, step.writes)
        else:
            store.purge(step.limit_bytes)
        if failure != "early":
            _acknowledge(number, epoch)
        store.maintain()
    store.close()


def _acknowledge(number: int, epoch: int) -> None:
    os.write(1, f"{number} {epoch}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
