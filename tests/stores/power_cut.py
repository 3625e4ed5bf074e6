"""Power cuts: what a disk could hold of a store at any moment of its life, and whether that is enough.

The writes and syncs are SQLite's own, recorded byte by byte with strace: the library that is shipped and the store as
it is, without a seam for the test. (A VFS in Python would need `apsw`, which brings an SQLite of its own, other than
the one that serves.)

**The disk.** What was written to a file before a sync of that file is there after a cut. Of what was written since, any
part may be: none, all, some writes, some sectors of some writes; where a file grew and a part is missing, there are
zeros or somebody else's bytes. The same goes for names: a file that was made or removed may be back as it was before
unless its directory was synced. What is not assumed to happen: a sector that was synced and is not written is changed
by a write beside it (SQLite's "powersafe overwrite"), and a disk that lies about a sync.

By hand, over every system call: `python -m tests.stores.power_cut --states 64`.
"""

import argparse
import itertools
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from flame.stores.sqlite import DATABASE_NAME
from tests.stores import power_cut_workload as workload
from tests.stores.conformance import purge_all

TEARS: Final = (1 << 40, 4096, 512)
"""Units in which a write may arrive: whole, in pages of the operating system, in sectors."""
_SYNCS: Final = ("fsync", "fdatasync")
_CALLS: Final = (
    *_SYNCS,
    *("open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range"),
    *("truncate", "ftruncate", "fallocate", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat"),
    *("mmap", "sync_file_range", "sync", "syncfs"),
)
"""Everything that changes files or makes them durable; what is not modelled below ends the replay."""
_LINE: Final = re.compile(r"(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?", re.DOTALL)
_IGNORED: Final = ("lock", f"{DATABASE_NAME}-shm")
"""Nobody reads them after a cut: the name of a process, and an index that SQLite makes anew."""


# --- recording -------------------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One system call: what was done to which file of the store ("" for the directory itself).

    `action` is `make`, `remove`, `write`, `resize`, `sync` or `say` (an acknowledgement, in `data`).
    """

    action: str
    name: str = ""
    offset: int = 0
    data: bytes = b""


def fast_place() -> str | None:
    """Where syncs cost nothing, if there is such a place: the power is cut in the model, not here."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class CannotRecord(Exception):
    """There is no strace here, or it may not trace."""


def record(directory: Path, seed: int, steps: int, failure: str = "") -> list[Call]:
    """Live a life (see `power_cut_workload`) in an empty directory, and return its system calls.

    Raises:
        CannotRecord: strace is missing or not allowed.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise CannotRecord("strace is not installed")
    with tempfile.TemporaryDirectory(prefix="fl-", dir=fast_place()) as place:
        trace = Path(place) / "trace"
        options = ["-xx", "-y", "-s", str(1 << 26), "-e", f"trace={','.join(_CALLS)}", "-o", str(trace)]
        life = [sys.executable, "-m", workload.__name__, str(directory), str(seed), str(steps), failure, "0"]
        run = subprocess.run([strace, *options, *life], capture_output=True, text=True)
        if "ptrace" in run.stderr.lower():
            raise CannotRecord(f"strace may not trace here: {run.stderr.strip()}")
        assert run.returncode == 0, run.stderr
        with trace.open() as lines:
            return list(parse(lines, directory))


def parse(lines: Iterator[str], directory: Path) -> Iterator[Call]:
    """The calls of a trace that concern a directory, and what was said on standard output."""
    place = str(directory)
    for line in lines:
        found = _LINE.match(line)
        if found is None or found[3].startswith("-"):
            continue
        name, arguments, result = found[1], found[2], int(found[3])
        path = _text(found[4] or _first_path(arguments))
        if name == "write" and arguments.startswith("1<"):
            yield Call("say", data=_data(arguments)[:result])
        elif path == place:
            if name in _SYNCS:
                yield Call("sync")
        elif path.startswith(f"{place}/"):
            file = path.removeprefix(f"{place}/")
            if file not in _IGNORED:
                yield from _calls(name, file, arguments, result)


def _calls(name: str, file: str, arguments: str, result: int) -> Iterator[Call]:
    numbers = arguments.rpartition(">")[2].replace(",", " ").split()
    if name in ("open", "openat"):
        if "O_CREAT" in arguments:
            yield Call("make", file)
        assert "O_TRUNC" not in arguments, f"not modelled: {arguments}"
    elif name == "pwrite64":
        yield Call("write", file, int(numbers[-1]), _data(arguments)[:result])
    elif name == "ftruncate":
        yield Call("resize", file, int(numbers[-1]))
    elif name == "fallocate":
        yield Call("write", file, 0, bytes(int(numbers[-1])))  # only the reserve, of which nobody reads the content
    elif name == "unlink":
        yield Call("remove", file)
    elif name in _SYNCS:
        yield Call("sync", file)
    else:
        raise AssertionError(f"not modelled: {name}({arguments[:200]}")


def _first_path(arguments: str) -> str:
    """The path of the descriptor that a call begins with, or else its first string."""
    found = re.match(r'\d+<([^>]*)>|"([^"]*)"', arguments)
    return (found[1] or found[2] or "") if found else ""


def _text(escaped: str) -> str:
    return bytes.fromhex(escaped.replace("\\x", "")).decode() if escaped.startswith("\\x") else escaped


def _data(arguments: str) -> bytes:
    text = arguments.partition('"')[2].partition('"')[0]
    return bytes.fromhex(text.replace("\\x", ""))


# --- the disk --------------------------------------------------------------------------------------------------------


class _File:
    """What is on the disk for sure, and what was done since."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.pending: list[Call] = []

    def sync(self) -> None:
        for call in self.pending:
            _apply(self.synced, call, b"\0")
        self.pending.clear()


def _apply(image: bytearray, call: Call, filler: bytes) -> None:
    """Do a write or a change of size; what a file grows by and nobody wrote is `filler`, over and over."""
    end = call.offset + len(call.data)
    missing = (end if call.action == "write" else call.offset) - len(image)
    if missing > 0:
        image += (filler * (missing // len(filler) + 1))[:missing]
    if call.action == "resize":
        del image[call.offset :]
    else:
        image[call.offset : end] = call.data


def torn(call: Call, unit: int) -> Iterator[Call]:
    """The parts of a write that lie in different units of the disk."""
    if call.action != "write":
        yield call
        return
    start, end = call.offset, call.offset + len(call.data)
    for low in range(start - start % unit, end, unit):
        begin = max(start, low)
        yield call._replace(offset=begin, data=call.data[begin - start : low + unit - start])


class Disk:
    """Takes calls; says what it could hold if the power went now."""

    def __init__(self) -> None:
        self._names: dict[str, _File] = {}
        self._synced_names: dict[str, _File] = {}
        self._pending_names: list[tuple[str, _File | None]] = []

    def do(self, call: Call) -> None:
        """The program has made this call."""
        if call.action == "make" and call.name not in self._names:
            self._names[call.name] = _File()
            self._pending_names.append((call.name, self._names[call.name]))
        elif call.action == "remove":
            del self._names[call.name]
            self._pending_names.append((call.name, None))
        elif call.action == "sync" and not call.name:
            self._synced_names = dict(self._names)
            self._pending_names.clear()
        elif call.action == "sync":
            self._names[call.name].sync()
        elif call.action in ("write", "resize"):
            self._names[call.name].pending.append(call)

    def unsure(self) -> int:
        """How many changes may be there or not."""
        files = {id(file): file for _, file in self._candidates() if file is not None}
        return len(self._pending_names) + sum(len(file.pending) for file in files.values())

    def after_cut(self, keep: Callable[[], bool], unit: int, filler: bytes) -> dict[str, bytes]:
        """What it holds afterwards.

        Args:
            keep: asked for each change that is not synced, or each part of it: is it there?
            unit: bytes that arrive together.
            filler: what stands where a file grew and nothing arrived.
        """
        names = dict(self._synced_names)
        for name, file in self._pending_names:
            if keep():
                names.pop(name, None)
                if file is not None:
                    names[name] = file
        images: dict[str, bytes] = {}
        for name, file in names.items():
            image = bytearray(file.synced)
            for part in itertools.chain.from_iterable(torn(call, unit) for call in file.pending):
                if keep():
                    _apply(image, part, filler)
            images[name] = bytes(image)
        return images

    def _candidates(self) -> Iterator[tuple[str, _File | None]]:
        yield from self._synced_names.items()
        yield from self._pending_names


# --- replaying -------------------------------------------------------------------------------------------------------


class Promise(NamedTuple):
    """What the program had acknowledged: how many steps, and the last epoch."""

    steps: int
    epoch: int


class Moment(NamedTuple):
    """The disk after some of the calls."""

    calls: int
    disk: Disk
    promise: Promise


def moments(calls: Sequence[Call]) -> Iterator[Moment]:
    """The disk after 0, 1, 2, ... calls; the same object every time."""
    disk, promise = Disk(), Promise(0, 0)
    yield Moment(0, disk, promise)
    for count, call in enumerate(calls, 1):
        if call.action == "say":
            step, epoch = map(int, call.data.split())
            assert step == promise.steps, "every step is acknowledged, in order"
            promise = Promise(step + 1, epoch)
        else:
            disk.do(call)
        yield Moment(count, disk, promise)


def cuts(disk: Disk, rng: random.Random, states: int) -> Iterator[dict[str, bytes]]:
    """What may be left: every subset of the changes where those are at most `states`, else this many drawn ones."""
    unsure = disk.unsure()
    if unsure < 40 and 1 << unsure <= states:
        for kept in itertools.product((False, True), repeat=unsure):
            answers = itertools.chain(kept, itertools.repeat(True))
            yield disk.after_cut(answers.__next__, TEARS[0], b"\0")
    for _ in range(states if unsure else 0):
        odds = rng.choice((0.02, 0.1, 0.5, 0.9, 0.98))
        filler = rng.choice((b"\0", rng.randbytes(512)))
        yield disk.after_cut(lambda odds=odds: rng.random() < odds, rng.choice(TEARS), filler)  # type: ignore[misc]


class Checker:
    """Opens what a cut left, and compares it with what was acknowledged.

    Args:
        directory: where the files are put; of its own.
        steps: of the life that was recorded.
    """

    def __init__(self, directory: Path, steps: Sequence[workload.Step]) -> None:
        self.checked = 0
        self._directory = directory
        self._steps = steps
        self._contents = workload.contents_after_each(list(steps))

    def problem(self, images: dict[str, bytes], promise: Promise) -> str:
        """What is wrong with the files ("" for nothing)."""
        self.checked += 1
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir()
        for name, image in images.items():
            (self._directory / name).write_bytes(image)
        # What is left of the index in shared memory means nothing; SQLite must not believe it.
        (self._directory / f"{DATABASE_NAME}-shm").write_bytes(b"\xa5" * 32768)
        try:
            return self._first_open(promise) or self._integrity() or self._second_open(promise)
        except Exception as error:  # whatever a damaged file leads to
            return f"it cannot be used: {type(error).__name__}: {error}"

    def _first_open(self, promise: Promise) -> str:
        store = workload.open_store(self._directory)
        epoch = store.open()
        try:
            under_way = promise.steps < len(self._steps) and isinstance(self._steps[promise.steps], workload.Open)
            if not promise.epoch < epoch <= promise.epoch + 1 + under_way:
                return f"epoch {epoch} after {promise.epoch}"
            problem = self._compare(workload.contents(store), promise)
            purge_all(store)
            store.maintain()
            return problem
        finally:
            store.close()

    def _second_open(self, promise: Promise) -> str:
        store = workload.open_store(self._directory)
        store.open()
        try:
            problem = self._compare(workload.contents(store), promise)
            return f"after a purge and another start: {problem}" if problem else ""
        finally:
            store.close()

    def _compare(self, found: bytes, promise: Promise) -> str:
        acknowledged = promise.steps
        if found in self._contents[acknowledged : acknowledged + 2]:
            return ""
        if found in self._contents:
            return f"it is as after {self._contents.index(found)} steps, {acknowledged} were acknowledged"
        return f"it is as after no step; {acknowledged} were acknowledged"

    def _integrity(self) -> str:
        connection = sqlite3.connect(self._directory / DATABASE_NAME)
        try:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        finally:
            connection.close()
        return "" if found == ["ok"] else f"integrity check: {found[:3]}"


def replay(
    calls: Sequence[Call], checker: Checker, *, seed: int, states: int, share: float = 1.0
) -> Iterator[tuple[int, str]]:
    """Cut the power after each call, or a drawn share of them, and yield what is wrong, with the number of calls.

    Args:
        seed: for what is drawn.
        states: how many of the possible states of the disk are tried at each moment.
        share: of the moments, from 0 to 1.
    """
    rng = random.Random(seed)
    for moment in moments(calls):
        if rng.random() < share:
            for images in cuts(moment.disk, rng, states):
                problem = checker.problem(images, moment.promise)
                if problem:
                    yield moment.calls, problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Record lives and cut the power everywhere in them; returns how many problems there were, at most 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores.power_cut", description="Cut the power of a store.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400, help="commits, purges and restarts that are recorded")
    parser.add_argument("--states", type=int, default=16, help="states of the disk that are tried after each call")
    parser.add_argument("--share", type=float, default=1.0, help="share of the calls after which the power is cut")
    parser.add_argument("--failure", choices=sorted(workload.FAILURES), default="", help="break the store's promise")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fl-", dir=fast_place()) as place:
        calls = record(Path(place) / "store", options.seed, options.steps, options.failure)
        checker = Checker(Path(place) / "after", workload.life(options.seed, options.steps))
        problems = 0
        found = replay(calls, checker, seed=options.seed, states=options.states, share=options.share)
        for after, problem in itertools.islice(found, 20):
            problems += 1
            sys.stdout.write(f"seed {options.seed}, power cut after {after} calls: {problem}\n")
        sys.stdout.write(f"{len(calls)} calls, {checker.checked} states of the disk, {problems} problems\n")
    return min(problems, 1)


if __name__ == "__main__":
    sys.exit(main())
