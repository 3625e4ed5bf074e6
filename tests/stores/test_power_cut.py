"""A power cut at any moment loses nothing that was acknowledged; and a store that is careless is found out.

By hand, with more of everything: `make power-cut POWER_CUT_ARGS="--states 64"`.
"""

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores import power_cut, power_cut_workload
from tests.stores.power_cut import Call, CannotRecord, Checker, Disk, cuts, fast_place, parse, replay, torn

SEED = 1
STEPS = 250
STATES = 500
"""States of the disk that are looked at here, about; each takes 15-20 ms."""


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory, in memory if there is such a place."""
    with tempfile.TemporaryDirectory(prefix="fl-", dir=fast_place()) as made:
        yield Path(made)


def recorded(place: Path, seed: int, steps: int, failure: str = "") -> tuple[list[Call], Checker]:
    """The calls of a life, and a checker for it; skips where nothing can be recorded."""
    try:
        calls = power_cut.record(place / "store", seed, steps, failure)
    except CannotRecord as error:
        pytest.skip(str(error))
    return calls, Checker(place / "after", power_cut_workload.life(seed, steps))


def test_a_power_cut_loses_nothing(place: Path) -> None:
    calls, checker = recorded(place, SEED, STEPS)
    said = [call for call in calls if call.action == "say"]
    assert len(said) == STEPS
    database_writes = [call for call in calls if (call.action, call.name) == ("write", "flame.db")]
    assert len(database_writes) > 100, "checkpoints belong to the life that is recorded"
    assert sum((call.action, call.name) == ("make", "flame.db-wal") for call in calls) > 2
    problems = replay(calls, checker, seed=SEED, states=2, share=STATES / 2 / len(calls))
    assert list(itertools.islice(problems, 5)) == []
    assert checker.checked > STATES / 2


def test_a_power_cut_after_any_call_of_a_short_life_loses_nothing(place: Path) -> None:
    calls, checker = recorded(place, SEED + 1, 40)
    assert sum((call.action, call.name) == ("write", "flame.db") for call in calls) > 50
    assert list(replay(calls, checker, seed=SEED, states=2)) == []
    assert checker.checked > 2 * len(calls) - 100


def test_the_first_moments_of_a_store_are_safe_too(place: Path) -> None:
    """Every cut while the files are made for the first time, with every subset where there are few."""
    calls, checker = recorded(place, SEED, 3)
    end = next(index for index, call in enumerate(calls) if call.action == "say")
    assert end > 10
    assert list(replay(calls[: end + 1], checker, seed=SEED, states=8)) == []
    assert checker.checked > 100


@pytest.mark.parametrize("failure", [failure for failure in power_cut_workload.FAILURES if failure])
def test_a_careless_store_is_found_out(place: Path, failure: str) -> None:
    calls, checker = recorded(place, SEED, 40, failure)
    assert next(replay(calls, checker, seed=SEED, states=1), None) is not None


def test_the_same_seed_is_the_same_life() -> None:
    lives = [power_cut_workload.life(seed, 200) for seed in (3, 3, 4)]
    assert lives[0] == lives[1] != lives[2]
    assert power_cut_workload.life(3, 100) == lives[0][:100]


# --- the disk --------------------------------------------------------------------------------------------------------


def write(name: str, offset: int, data: bytes) -> Call:
    return Call("write", name, offset, data)


def states(disk: Disk) -> list[dict[str, bytes]]:
    """Everything that it could hold, each state once."""
    found: list[dict[str, bytes]] = []
    for images in cuts(disk, random.Random(1), 256):
        if images not in found:
            found.append(images)
    return found


def disk_after(*calls: Call) -> Disk:
    disk = Disk()
    for call in calls:
        disk.do(call)
    return disk


MADE = (Call("make", "f"), Call("sync"))


def test_what_was_synced_is_there() -> None:
    disk = disk_after(*MADE, write("f", 0, b"abc"), Call("sync", "f"))
    assert disk.unsure() == 0
    assert disk.after_cut(lambda: False, 512, b"\0") == {"f": b"abc"}


def test_of_what_was_not_synced_any_part_may_be_there() -> None:
    disk = disk_after(*MADE, write("f", 0, b"abc"), Call("sync", "f"), write("f", 1, b"x"), write("f", 2, b"y"))
    found = [images["f"] for images in states(disk)]
    assert sorted(found) == [b"abc", b"aby", b"axc", b"axy"]


def test_a_gap_holds_anything() -> None:
    disk = disk_after(*MADE, write("f", 0, b"abc"), write("f", 3, b"d"))
    answers = iter((False, True))
    assert disk.after_cut(answers.__next__, 512, b"?") == {"f": b"???d"}


def test_a_file_whose_name_was_not_synced_may_be_missing() -> None:
    disk = disk_after(Call("make", "f"), write("f", 0, b"a"), Call("sync", "f"))
    assert sorted(len(images) for images in states(disk)) == [0, 1]


def test_a_file_that_was_removed_may_be_back() -> None:
    disk = disk_after(*MADE, write("f", 0, b"a"), Call("sync", "f"), Call("remove", "f"))
    assert {"f": b"a"} in states(disk)
    assert {} in states(disk)
    disk.do(Call("sync"))
    assert disk.after_cut(lambda: True, 512, b"\0") == {}


def test_a_change_of_size_may_be_lost() -> None:
    disk = disk_after(*MADE, write("f", 0, b"abc"), Call("sync", "f"), Call("resize", "f", 1))
    assert sorted(images["f"] for images in states(disk)) == [b"a", b"abc"]


def test_a_write_tears_at_the_units_of_the_disk() -> None:
    call = write("f", 500, bytes(range(100)))
    parts = list(torn(call, 512))
    assert [(part.offset, len(part.data)) for part in parts] == [(500, 12), (512, 88)]
    assert b"".join(part.data for part in parts) == call.data
    assert list(torn(call, 1 << 40)) == [call]


# --- the trace -------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def test_a_trace_is_read() -> None:
    file = f"5<{escaped('/d/f')}>"
    lines = [
        f'openat(AT_FDCWD, "{escaped("/d/f")}", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = {file}',
        f'openat(AT_FDCWD, "{escaped("/d/f")}", O_RDWR|O_CLOEXEC) = {file}',
        f'pwrite64({file}, "{escaped("abc")}", 3, 7) = 2',
        f'pwrite64({file}, "{escaped("abc")}", 3, 7) = -1 ENOSPC (No space left on device)',
        f"ftruncate({file}, 3) = 0",
        f"fdatasync({file}) = 0",
        f"fsync(6<{escaped('/d')}>) = 0",
        f'write(1<{escaped("pipe:[1]")}>, "{escaped("0 1")}", 3) = 3',
        f'pwrite64(7<{escaped("/d/lock")}>, "{escaped("1")}", 1, 0) = 1',
        f'unlink("{escaped("/d/f")}") = 0',
        f'unlink("{escaped("/elsewhere/f")}") = 0',
        "+++ exited with 0 +++",
    ]
    assert list(parse(iter(lines), Path("/d"))) == [
        Call("make", "f"),
        Call("write", "f", 7, b"ab"),
        Call("resize", "f", 3),
        Call("sync", "f"),
        Call("sync"),
        Call("say", data=b"0 1"),
        Call("remove", "f"),
    ]


def test_a_call_that_is_not_modelled_ends_the_replay() -> None:
    line = f'pwritev(5<{escaped("/d/f")}>, [{{iov_base="", iov_len=0}}], 1, 0) = 0'
    with pytest.raises(AssertionError, match="not modelled"):
        list(parse(iter([line]), Path("/d")))
