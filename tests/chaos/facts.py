"""What the processes of a chaos run log, and the tasks that they run.

A log is a file of lines: time (nanoseconds of a clock that all processes share), a word, and what belongs to it. Each
line is one write to a file that is only appended to, so that whoever is killed has logged all that it did before.

The input of a task follows from its session and its index, a number that its client gives it before its id is known.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from zlib import crc32

import msgspec

import flame
from flame.model.errors import EXECUTOR_DIED, NO_EXECUTOR
from flame.sim.history import CANCELLED, DIED, NOT_STARTED, RAISED, digest

INDEXES = 1_000_000
"""Indexes that one client may use in a session."""
KINDS = ("ok", "raise", "die", "big", "hold")


class Fact(msgspec.Struct, frozen=True):
    """A line of a log; `source` is the name of its file, `words` what follows the time."""

    at_ns: int
    source: str
    words: list[str]


class Log:
    """A log of one process, in a directory that all share."""

    def __init__(self, directory: Path, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(directory / f"{name}.facts", flags, 0o600)

    def write(self, *words: object) -> None:
        """Append a line."""
        text = " ".join(str(word) for word in (now_ns(), *words))
        os.write(self._descriptor, f"{text}\n".encode())


def now_ns() -> int:
    """The clock of all logs."""
    return time.monotonic_ns()


def read_facts(directory: Path) -> list[Fact]:
    """All facts of a run, in the order of their times."""
    found: list[Fact] = []
    for path in sorted(directory.glob("*.facts")):
        found.extend(_facts_of(path))
    found.sort(key=lambda fact: fact.at_ns)
    return found


def facts_so_far(directory: Path, name: str) -> list[Fact]:
    """The facts of one process."""
    path = directory / f"{name}.facts"
    return list(_facts_of(path)) if path.exists() else []


def _facts_of(path: Path) -> Iterator[Fact]:
    for line in path.read_text().splitlines():
        at_ns, *words = line.split(" ")
        yield Fact(int(at_ns), path.stem, words)


def input_of(session: str, index: int) -> bytes:
    """The input of a task: session, index, microseconds that it takes, and what it does."""
    chance = Random(crc32(f"{session} {index}".encode()))
    kind = chance.choices(KINDS, (948, 30, 2, 12, 8))[0]
    duration_us = chance.randrange(200, 5_000) if chance.random() < 0.98 else chance.randrange(50_000, 400_000)
    return f"{session} {index} {duration_us} {kind} ".encode() + bytes(chance.choice((0, 0, 20, 3_000)))


def outcome_of(value: bytes | BaseException | None) -> int:
    """What a client was given, as a number of a `History`."""
    if isinstance(value, flame.TaskCancelled):
        return CANCELLED
    if isinstance(value, flame.TaskFailed):
        return {EXECUTOR_DIED: DIED, NO_EXECUTOR: NOT_STARTED}.get(value.type, RAISED)
    assert not isinstance(value, BaseException), value
    return digest(value)
