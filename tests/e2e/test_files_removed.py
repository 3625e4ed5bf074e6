"""Files of a running cluster that somebody removes or renames."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from flame.supervisor.settings import Settings
from tests.cli.commands import Home
from tests.e2e.cluster import PATIENCE_S
from tests.support import wait_until_true


@pytest.fixture
def home(short_tmp: Path) -> Iterator[Home]:
    """A cluster of `flame up`, with one executor."""
    made = Home(short_tmp)
    made.up("--executors", "1")
    yield made
    made.end()


def wait_for_another(home: Home, session_manager: int) -> None:
    wait_until_true(
        lambda: home.pids("session-manager") not in ([], [session_manager]),
        PATIENCE_S,
        "the session manager ends and is started again",
    )


@pytest.mark.parametrize("first", ["remove", "submit"])
def test_of_a_log_that_is_removed_no_task_is_lost(home: Home, first: str) -> None:
    """The session manager notices it, saves what it has, ends, and is started again, also in its first seconds."""
    session_manager = home.pid("session-manager")
    store = Path(home.data_dir) / "store"

    def remove() -> None:
        for name in ("flame.db-wal", "flame.db-shm"):
            os.unlink(store / name)

    with flame.connect(Settings(home.data_dir).endpoint, timeout=PATIENCE_S) as connection:
        session = connection.create_session("flmping", session_id="kept")
        if first == "remove":
            remove()
        futures = [session.run(b"") for _ in range(300)]
        session.flush(PATIENCE_S)
        if first == "submit":
            remove()
        wait_for_another(home, session_manager)
        assert all(future.result(PATIENCE_S) for future in futures)
        session.close()
    log = home.log("session-manager")
    assert "error: the store cannot be used: " in log
    assert f"{store}/flame.db-wal was removed or renamed while it was in use; all that it held is saved" in log
    assert "Traceback" not in log
    assert "ended with exit code 74" in home.log("supervisor")


def test_a_data_directory_that_is_renamed_is_told_plainly_and_goes_on_when_it_is_back(home: Home) -> None:
    home.ok("flmping", "-t", "5")
    session_manager = home.pid("session-manager")
    away = f"{home.data_dir}.away"
    os.rename(home.data_dir, away)
    wait_until_true(lambda: session_manager not in home.pids("session-manager"), PATIENCE_S, "it ends")
    wait_until_true(lambda: "cannot be started" in Path(f"{away}/log/supervisor.log").read_text(), PATIENCE_S)
    os.rename(away, home.data_dir)
    wait_for_another(home, session_manager)
    assert f"{home.data_dir}/store/flame.db was removed or renamed while it was in use" in home.log("session-manager")
    assert "Traceback" not in home.log("session-manager") + home.log("supervisor")
    assert "<5> tasks was completed" in home.ok("flmping", "-t", "5")
    assert "0 open, 2 closed" in home.ok("flame", "status")
