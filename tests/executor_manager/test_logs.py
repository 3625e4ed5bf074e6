"""Logs are bounded and keep the newest output."""

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flame.executor_manager.logs import LogFile, LogPipe


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
