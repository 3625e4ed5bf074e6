"""The durable store."""

import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flame.model.errors import Aborted, ConfigurationError, FailedPrecondition, Internal, ResourceExhausted
from flame.model.limits import KIB, MIB
from flame.model.records import DeleteSession, Write
from flame.stores.port import Store
from flame.stores.sqlite import PAGE_BYTES, SqliteStore
from tests.stores.conformance import (
    CHECKS,
    SMALL_BYTES,
    Check,
    columns,
    purge_all,
    put_blob,
    put_chunk,
    put_output,
    put_segment,
    put_session,
    read_all,
)

COMMITTER = Path(__file__).with_name("committer.py")


class SqlitePlace:
    """A directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self) -> Store:
        return SqliteStore(self.path, reserve_bytes=64 * KIB, checkpoint_bytes=MIB)

    def small_store(self) -> Store:
        return SqliteStore(self.path, max_page_count=SMALL_BYTES // PAGE_BYTES, reserve_bytes=256 * KIB)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Check, tmp_path: Path) -> None:
    check(SqlitePlace(tmp_path / "store"))


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., tuple[SqliteStore, int]]]:
    """Opens a store in `tmp_path`; all are closed in the end."""
    stores: list[SqliteStore] = []

    def open_it(
        path: Path = tmp_path, *, reserve_bytes: int = 0, checkpoint_bytes: int = MIB
    ) -> tuple[SqliteStore, int]:
        store = SqliteStore(path, reserve_bytes=reserve_bytes, checkpoint_bytes=checkpoint_bytes)
        stores.append(store)
        return store, store.open()

    yield open_it
    for store in stores:
        store.close()


OpenStore = Callable[..., tuple[SqliteStore, int]]


# --- the file --------------------------------------------------------------------------------------------------------


def test_directory_and_files_are_private(tmp_path: Path, open_store: OpenStore) -> None:
    path = tmp_path / "data"
    store, epoch = open_store(path, reserve_bytes=64 * KIB)
    store.commit(epoch, [put_session(1)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}
    assert set(modes) == {"flame.db", "flame.db-shm", "flame.db-wal", "lock", "reserve"}
    assert set(modes.values()) == {0o600}


def test_two_stores_have_two_ids(tmp_path: Path, open_store: OpenStore) -> None:
    assert open_store(tmp_path / "a")[0].store_id != open_store(tmp_path / "b")[0].store_id


def test_a_directory_in_use_names_the_process(tmp_path: Path, open_store: OpenStore) -> None:
    open_store()
    with pytest.raises(FailedPrecondition, match=f"{tmp_path} is in use by process {os.getpid()} "):
        open_store()


def test_a_newer_format_names_both(tmp_path: Path, open_store: OpenStore) -> None:
    open_store()[0].close()
    with sqlite3.connect(tmp_path / "flame.db") as connection:
        connection.execute("UPDATE meta SET value = 7 WHERE key = 'format'")
    connection.close()
    with pytest.raises(FailedPrecondition, match="has format 7, this version of Flame reads format 1"):
        open_store()
    with sqlite3.connect(tmp_path / "flame.db") as connection:
        connection.execute("UPDATE meta SET value = 1 WHERE key = 'format'")
    connection.close()
    open_store()


def test_a_foreign_database_is_left_alone(tmp_path: Path, open_store: OpenStore) -> None:
    with sqlite3.connect(tmp_path / "flame.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(Internal, match=r"flame\.db is not a store of Flame"):
        open_store()


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path, open_store: OpenStore) -> None:
    (tmp_path / "flame.db").write_bytes(b"garbage" * 10_000)
    with pytest.raises(Internal, match=r"flame\.db: open failed: file is not a database .*restore it from a copy"):
        open_store()


def test_a_damaged_page_is_a_clear_error(tmp_path: Path, open_store: OpenStore) -> None:
    store, epoch = open_store()
    store.commit(epoch, [put_session(1), *(put_chunk(1, 1 + 1000 * n, 1000) for n in range(20))])
    store.close()
    size = (tmp_path / "flame.db").stat().st_size
    with (tmp_path / "flame.db").open("r+b") as file:
        file.seek(2 * PAGE_BYTES)
        file.write(b"\xff" * (size - 2 * PAGE_BYTES))
    with pytest.raises(Internal, match=r"flame\.db: \w+ failed: database disk image is malformed"):
        open_store()[0].recover()


def test_a_database_that_is_a_directory_is_a_configuration_error(tmp_path: Path, open_store: OpenStore) -> None:
    (tmp_path / "flame.db").mkdir()
    with pytest.raises(ConfigurationError, match=r"flame\.db cannot be used: Is a directory"):
        open_store()


# --- commit ----------------------------------------------------------------------------------------------------------


def test_an_epoch_that_was_raised_in_the_file_fences_off(tmp_path: Path, open_store: OpenStore) -> None:
    store, epoch = open_store()
    other = sqlite3.connect(tmp_path / "flame.db", isolation_level=None)
    other.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
    other.close()
    with pytest.raises(Aborted, match=f"has epoch {epoch + 1}, this session manager has {epoch}"):
        store.commit(epoch, [put_session(1)])
    assert store.recover().sessions == ()


def test_a_row_that_is_there_is_a_defect_and_nothing_of_the_commit_is_stored(open_store: OpenStore) -> None:
    store, epoch = open_store()
    store.commit(epoch, [put_session(1), put_chunk(1, 1, 5)])
    with pytest.raises(Internal, match=r"UNIQUE constraint failed: chunk\.session, chunk\.first"):
        store.commit(epoch, [put_session(2), put_chunk(1, 6, 5), put_chunk(1, 1, 5)])
    found = store.recover()
    assert [session.number for session in found.sessions] == [1]
    assert [chunk.first for chunk in found.chunks] == [1]


def test_a_value_that_fits_no_column_is_a_defect_and_leaves_no_transaction(open_store: OpenStore) -> None:
    store, epoch = open_store()
    with pytest.raises(Internal):
        store.commit(epoch, [put_session(1), put_chunk(1, 1, 1, created_ms=1 << 70)])
    store.commit(epoch, [put_session(2)])
    assert [session.number for session in store.recover().sessions] == [2]


@pytest.mark.parametrize("kill_after", [1, 40, 333])
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, open_store: OpenStore, kill_after: int) -> None:
    """A child commits chunk after chunk and prints each number after its commit; it is killed in the middle."""
    command = [sys.executable, str(COMMITTER), str(tmp_path), "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = 0
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged == kill_after:
                child.send_signal(signal.SIGKILL)
    assert acknowledged >= kill_after
    store, epoch = open_store()
    assert epoch == 2
    stored = store.recover().chunks
    assert [row.first for row in stored] == [1 + 7 * n for n in range(len(stored))]
    assert acknowledged <= len(stored) <= acknowledged + 1
    for number in range(1, len(stored) + 1):
        assert store.read_inputs(1, 1 + 7 * (number - 1), 7) == columns([str(number).encode() * 50] * 7)
    assert [row.sequence for row in read_all(store, 1)] == list(range(1, len(stored) + 1))


def traced(*options: str, directory: Path, count: int) -> subprocess.CompletedProcess[str]:
    """Run the committer under strace; skips where that is not possible."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    command = [strace, "-f", "-y", *options, sys.executable, str(COMMITTER), str(directory), str(count)]
    run = subprocess.run(command, capture_output=True, text=True)
    if "ptrace" in run.stderr or "PTRACE" in run.stderr:
        pytest.skip("strace may not trace here")
    return run


def test_a_commit_is_synced_before_it_returns(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    options = ("-e", "trace=fsync,fdatasync,write,pwrite64", "-o", str(trace))
    run = traced(*options, directory=tmp_path / "store", count=5)
    assert run.stdout.split() == ["1", "2", "3", "4", "5"], run.stderr
    written = synced = False
    acknowledgements = 0
    for line in trace.read_text(errors="replace").splitlines():
        if "flame.db-wal>" in line:
            synced = "sync(" in line
            written = written or "write" in line
        elif re.search(r"write\(1<.*\\n", line):
            assert written, f"acknowledged before it was written: {line}"
            assert synced, f"acknowledged before it was synced: {line}"
            acknowledgements += 1
            written = synced = False
    assert acknowledgements == 5


def test_a_sync_that_fails_is_an_internal_error(tmp_path: Path, open_store: OpenStore) -> None:
    """The disk refuses a sync: that commit is not acknowledged, and those before it are there."""
    options = ("-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO:when=15+")
    run = traced(*options, directory=tmp_path, count=100)
    acknowledged = len(run.stdout.split())
    assert 1 <= acknowledged < 15
    assert "flame.model.errors.Internal" in run.stderr
    assert "commit failed: disk I/O error" in run.stderr
    assert len(open_store()[0].recover().chunks) >= acknowledged


# --- the log ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload_bytes", [0, 3000, 40_000, 900_000])
def test_the_log_is_reused_and_stays_bounded(tmp_path: Path, open_store: OpenStore, payload_bytes: int) -> None:
    """Whatever the size of its rows: commits go on for five times the bound, the log file stays below twice it."""
    bound_bytes = 2 * MIB
    store, epoch = open_store(checkpoint_bytes=bound_bytes)
    store.commit(epoch, [put_session(1)])
    number, total_bytes = 0, 0
    while total_bytes < 5 * bound_bytes:
        number += 1
        store.commit(epoch, [put_blob(1, number, payload_bytes), put_output(1, number, number, payload_bytes)])
        total_bytes += 2 * payload_bytes + 3 * PAGE_BYTES
        store.maintain()
    assert (tmp_path / "flame.db-wal").stat().st_size < 2 * bound_bytes + 2 * payload_bytes
    assert len(store.recover().chunks) == number


def test_the_log_is_bounded_even_without_maintenance(tmp_path: Path, open_store: OpenStore) -> None:
    store, epoch = open_store(checkpoint_bytes=256 * KIB)
    store.commit(epoch, [put_session(1)])
    for number in range(1, 101):
        store.commit(epoch, [put_blob(1, number, 64 * KIB)])
    assert (tmp_path / "flame.db-wal").stat().st_size < 2 * MIB


def test_the_log_goes_back_to_its_bound_after_a_reader_from_outside(tmp_path: Path, open_store: OpenStore) -> None:
    """Another program that reads the file holds the log up; commits go on, and the log is reused when it has gone."""
    store, epoch = open_store(checkpoint_bytes=256 * KIB)
    store.commit(epoch, [put_session(1)])
    log = tmp_path / "flame.db-wal"
    reader = sqlite3.connect(tmp_path / "flame.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM chunk").fetchone()
    for number in range(1, 41):
        store.commit(epoch, [put_blob(1, number, 64 * KIB)])
        store.maintain()
    grown_bytes = log.stat().st_size
    assert grown_bytes > 40 * 64 * KIB
    reader.close()
    for number in range(41, 121):
        store.commit(epoch, [put_blob(1, number, 64 * KIB)])
        store.maintain()
    assert log.stat().st_size < 2 * grown_bytes
    assert len(store.recover().chunks) == 120


# --- files that go away ----------------------------------------------------------------------------------------------


def test_a_log_that_is_removed_is_noticed_and_all_of_it_saved(tmp_path: Path, open_store: OpenStore) -> None:
    store, epoch = open_store()
    store.commit(epoch, [put_session(1)])
    for name in ("flame.db-wal", "flame.db-shm"):
        (tmp_path / name).unlink()
    store.commit(epoch, [put_chunk(1, 1, 300)])
    with pytest.raises(Internal, match=r"flame\.db-wal was removed or renamed while it was in use.*is saved"):
        store.free_bytes()
    # As it stands now, without an orderly end.
    shutil.copytree(tmp_path, tmp_path / "killed")
    found, _ = open_store(tmp_path / "killed")
    assert found.store_id == store.store_id
    assert [chunk.count for chunk in found.recover().chunks] == [300]


def test_a_log_that_a_reader_holds_up_is_not_called_saved(tmp_path: Path, open_store: OpenStore) -> None:
    store, epoch = open_store()
    reader = sqlite3.connect(tmp_path / "flame.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM chunk").fetchone()
    store.commit(epoch, [put_session(1)])
    (tmp_path / "flame.db-wal").unlink()
    with pytest.raises(Internal, match="a new start does not find what it held"):
        store.free_bytes()
    reader.close()


def test_a_log_with_another_one_in_its_place_is_noticed(tmp_path: Path, open_store: OpenStore) -> None:
    store, _ = open_store()
    (tmp_path / "flame.db-wal").rename(tmp_path / "kept")
    shutil.copy(tmp_path / "kept", tmp_path / "flame.db-wal")
    with pytest.raises(Internal, match=r"flame\.db-wal was replaced"):
        store.free_bytes()


def test_a_database_that_is_renamed_is_noticed_and_can_be_put_back(tmp_path: Path, open_store: OpenStore) -> None:
    """No new store is begun where the log of the old one stands: that would delete it."""
    path = tmp_path / "store"
    store, epoch = open_store(path, checkpoint_bytes=256 * KIB)
    store.commit(epoch, [put_session(1), put_blob(1, 1, 300 * KIB)])
    (path / "flame.db").rename(path / "aside")
    with pytest.raises(Internal, match=r"flame\.db was removed or renamed"):
        store.free_bytes()
    with pytest.raises(Internal, match=r"flame\.db was removed or renamed"):
        store.maintain()  # it has to checkpoint
    shutil.copytree(path, tmp_path / "killed")
    with pytest.raises(FailedPrecondition, match=r"flame\.db is missing, and its log flame\.db-wal is there"):
        open_store(tmp_path / "killed")
    (tmp_path / "killed" / "aside").rename(tmp_path / "killed" / "flame.db")
    assert len(open_store(tmp_path / "killed")[0].recover().chunks) == 1


def test_checkpoints_of_any_kind_and_a_new_start_are_no_loss_of_a_file(tmp_path: Path, open_store: OpenStore) -> None:
    """The log is emptied, cut, read by others, deleted when it is closed, and made anew."""
    store, epoch = open_store(checkpoint_bytes=256 * KIB)
    assert store.free_bytes() > 0
    store.commit(epoch, [put_session(1)])
    for number in range(1, 41):
        store.commit(epoch, [put_blob(1, number, 64 * KIB)])
        store.maintain()
        assert store.free_bytes() > 0
    for kind in ("FULL", "RESTART", "TRUNCATE"):
        other = sqlite3.connect(tmp_path / "flame.db", isolation_level=None)
        other.execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
        other.close()
        assert store.free_bytes() > 0
    store.open()
    assert store.free_bytes() > 0
    store.close()
    assert not (tmp_path / "flame.db-wal").exists()
    store, epoch = open_store()
    store.commit(epoch, [put_session(2)])
    assert store.free_bytes() > 0


# --- room ------------------------------------------------------------------------------------------------------------


def test_deleting_makes_room_in_the_file(tmp_path: Path, open_store: OpenStore) -> None:
    store, epoch = open_store()
    size_bytes = 0
    for session in range(1, 6):
        store.commit(epoch, [put_session(session), *(put_blob(session, n, 64 * KIB) for n in range(1, 33))])
        store.commit(epoch, [DeleteSession(session)])
        purge_all(store)
        store.maintain()
        size_bytes = size_bytes or (tmp_path / "flame.db").stat().st_size
    assert (tmp_path / "flame.db").stat().st_size < 2 * size_bytes + MIB


def test_pages_of_deleted_sessions_count_as_free(open_store: OpenStore) -> None:
    store, epoch = open_store()
    store.commit(epoch, [put_session(1), *(put_blob(1, n, MIB) for n in range(1, 9)), DeleteSession(1)])
    pages = store._pragma("freelist_count")
    purge_all(store)
    assert (store._pragma("freelist_count") - pages) * PAGE_BYTES >= 8 * MIB


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    path = Path(tempfile.mkdtemp(prefix="fl-"))
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        path.rmdir()
        pytest.skip("mount is not installed")
    if mounted.returncode:
        path.rmdir()
        pytest.skip(f"mount is not permitted here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)
    path.rmdir()


def fill(disk: Path, keep_bytes: int = 0) -> Path:
    """Fill a disk up to `keep_bytes` with a file; return its path."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - keep_bytes)
    return ballast


def commits_until_full(store: SqliteStore, epoch: int, write: Callable[[int], Write]) -> int:
    """Commit `write(1)`, `write(2)`, ... until one is refused; return the number of the last that was stored."""
    for number in range(1, 10_000):
        try:
            store.commit(epoch, [write(number)])
        except ResourceExhausted:
            return number - 1
        store.maintain()
    raise AssertionError("the disk did not become full")


def test_a_full_disk_refuses_work_and_has_room_for_results(small_disk: Path, open_store: OpenStore) -> None:
    store, epoch = open_store(small_disk / "store", reserve_bytes=MIB)
    fill(small_disk, keep_bytes=6 * MIB)
    store.commit(epoch, [put_session(1), put_session(2)])
    number = commits_until_full(store, epoch, lambda number: put_blob(1, number, 64 * KIB))
    assert number > 20
    assert store.free_bytes() < 256 * KIB
    before = store.recover()
    assert len(before.chunks) == number
    with pytest.raises(ResourceExhausted, match=r"the disk of .*flame\.db is full"):
        store.commit(epoch, [put_blob(1, number + 1, MIB)])
    assert (small_disk / "store" / "reserve").exists(), "work does not get the reserve"
    results = commits_until_full(store, epoch, lambda number: put_output(1, number, number, 32 * KIB))
    assert results * 32 * KIB > MIB // 4
    assert not (small_disk / "store" / "reserve").exists()
    assert len(store.recover().segments) == results
    store.close()

    (small_disk / "ballast").unlink()
    store, _ = open_store(small_disk / "store", reserve_bytes=MIB)
    assert len(store.recover().chunks) == number
    assert len(store.recover().segments) == results
    assert store.read_inputs(1, number, 1) == columns([b"\x5a" * 64 * KIB])


def test_the_reserve_comes_back_when_there_is_room(small_disk: Path, open_store: OpenStore) -> None:
    store, epoch = open_store(small_disk / "store", reserve_bytes=MIB)
    reserve = small_disk / "store" / "reserve"
    store.commit(epoch, [put_session(1)])
    ballast = fill(small_disk)
    for sequence in range(1, 6):
        store.commit(epoch, [put_output(1, sequence, sequence, 64 * KIB)])
        store.maintain()
    assert not reserve.exists()
    assert store.free_bytes() == 0
    ballast.unlink()
    store.maintain()
    assert reserve.stat().st_blocks * 512 >= MIB
    assert len(store.recover().segments) == 5


def test_a_store_on_a_full_disk_opens_and_can_be_read(small_disk: Path, open_store: OpenStore) -> None:
    store, epoch = open_store(small_disk / "store", reserve_bytes=MIB)
    store.commit(epoch, [put_session(1), put_chunk(1, 1, 5), put_segment(1, 1, 1, 5)])
    store.close()
    fill(small_disk)
    store, _ = open_store(small_disk / "store", reserve_bytes=MIB)
    assert [row.sequence for row in read_all(store, 1)] == [1]


def test_a_purge_waits_on_a_full_disk_and_goes_on_where_it_stopped(small_disk: Path, open_store: OpenStore) -> None:
    def rows() -> int:
        return sum(int(store._rows(f"SELECT count(*) FROM {table}")[0][0]) for table in ("chunk", "segment"))

    store, epoch = open_store(small_disk / "store", reserve_bytes=0)
    store.commit(epoch, [put_session(1), *(put_blob(1, n, 16 * KIB) for n in range(1, 61)), DeleteSession(1)])
    assert store.purge(200 * KIB) is True
    some_left = rows()
    assert 0 < some_left < 60
    ballast = fill(small_disk)
    while store.purge(64 * KIB) and rows() < some_left:  # what still fits into the log
        some_left = rows()
    assert store.purge(64 * KIB) is True
    assert rows() == some_left > 0
    store.close()

    ballast.unlink()
    store, _ = open_store(small_disk / "store", reserve_bytes=0)
    assert rows() == some_left
    assert store.purge(64 * KIB) is True
    assert rows() < some_left
    purge_all(store)
    assert rows() == 0
