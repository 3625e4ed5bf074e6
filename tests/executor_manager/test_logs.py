"""Logs are bounded and keep the newest output."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flame.executor_manager.logs import LogDirectory, LogFile, LogPipe


@given(st.lists(st.binary(max_size=70), max_size=20))
def test_both_files_stay_within_the_bound(pieces: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.log"
        log = LogFile(path, 100)
        for piece in pieces:
            log.write(piece)
        log.close()
        old = Path(f"{path}.1").read_bytes() if Path(f"{path}.1").exists() else b""
        kept = old + path.read_bytes()
        assert len(kept) <= 100
        written = b"".join(pieces)
        assert written.endswith(kept)
        assert len(kept) >= min(len(written), 50)


def test_an_existing_log_is_continued(tmp_path: Path) -> None:
    for text in (b"one\n", b"two\n"):
        log = LogFile(tmp_path / "x.log", 1000)
        log.write(text)
        log.close()
    assert (tmp_path / "x.log").read_bytes() == b"one\ntwo\n"


def test_a_pipe_is_emptied_when_it_is_closed(tmp_path: Path) -> None:
    pipe = LogPipe(LogFile(tmp_path / "x.log", 10_000))
    assert pipe.pump()
    os.write(pipe.write_end, b"first ")
    assert pipe.pump()
    os.write(pipe.write_end, b"last")
    pipe.close()
    assert (tmp_path / "x.log").read_bytes() == b"first last"


def test_the_end_of_the_writers_is_the_end(tmp_path: Path) -> None:
    pipe = LogPipe(LogFile(tmp_path / "x.log", 10_000))
    pipe.handed_over()
    assert not pipe.pump()
    pipe.close()


def wrote(logs: LogDirectory, executor: str, text: bytes) -> LogFile:
    log = logs.open(executor)
    log.write(text)
    log.close()
    return log


def test_an_empty_log_stays_while_there_is_room_and_goes_first(tmp_path: Path) -> None:
    logs = LogDirectory(tmp_path / "log", 100, max_files=2)
    logs.ended(wrote(logs, "a", b"text"))
    logs.ended(wrote(logs, "b", b""))
    assert {path.name for path in (tmp_path / "log").iterdir()} == {"executor-a.log", "executor-b.log"}
    logs.ended(wrote(logs, "c", b"text"))
    assert {path.name for path in (tmp_path / "log").iterdir()} == {"executor-a.log", "executor-c.log"}


def test_empty_logs_make_no_room_in_bytes(tmp_path: Path) -> None:
    logs = LogDirectory(tmp_path / "log", 100, max_files_bytes=5)
    logs.ended(wrote(logs, "a", b""))
    logs.ended(wrote(logs, "b", b"text"))
    logs.ended(wrote(logs, "c", b"text"))
    assert {path.name for path in (tmp_path / "log").iterdir()} == {"executor-a.log", "executor-c.log"}


@pytest.mark.parametrize("bounds", [{"max_files": 6}, {"max_files_bytes": 3 * 80}])
def test_the_newest_logs_are_kept(tmp_path: Path, bounds: dict[str, int]) -> None:
    logs = LogDirectory(tmp_path, 100, **bounds)
    live = wrote(logs, "live", b"x" * 80)
    for number in range(8):
        logs.ended(wrote(logs, f"e{number}", b"y" * 80))  # 50 bytes in the predecessor, 30 in the file
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"executor-{name}.log{end}" for name in ("live", "e5", "e6", "e7") for end in ("", ".1")}
    again = wrote(logs, "e5", b"")
    for log in (live, wrote(logs, "last", b"z" * 80)):
        logs.ended(log)
    assert not (tmp_path / "executor-e6.log").exists()
    assert again.path.exists()


def test_logs_of_an_earlier_start_count(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old", "empty")):
        path = tmp_path / f"executor-{name}.log"
        path.write_text("" if name == "empty" else name)
        os.utime(path, (1000 - age, 1000 - age))
    logs = LogDirectory(tmp_path, 100, max_files=2)
    logs.ended(wrote(logs, "now", b"x"))
    assert {path.name for path in tmp_path.iterdir()} == {"executor-new.log", "executor-now.log"}


def test_one_executor_with_two_processes_has_one_live_log(tmp_path: Path) -> None:
    logs = LogDirectory(tmp_path, 100, max_files=0)
    first, second = wrote(logs, "e", b"1"), wrote(logs, "e", b"2")
    logs.ended(first)
    assert first.path.read_bytes() == b"12"
    logs.ended(second)
    assert not first.path.exists()
