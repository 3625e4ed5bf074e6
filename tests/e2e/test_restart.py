"""The whole cluster stopped and started again on the same data directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from flame.model.states import SessionState
from tests.cli.commands import Home
from tests.e2e.cluster import notes, register
from tests.support import wait_until_true


@pytest.fixture
def home(short_tmp: Path) -> Iterator[Home]:
    """A user whose cluster does not run yet."""
    made = Home(short_tmp)
    yield made
    made.end()


def connect(home: Home) -> flame.Connection:
    return flame.connect(f"unix://{home.data_dir}/run/session-manager.sock", timeout=60)


@pytest.mark.parametrize("how", ["down", "kill"])
def test_queued_tasks_run_and_results_are_readable_after_a_restart(home: Home, how: str) -> None:
    directory = home.path
    home.up("--executors", "1")
    with connect(home) as connection:
        register(connection, "Gated")
        session = connection.create_session("gated", common_data=str(directory).encode(), session_id="kept")
        (directory / "first.go").touch()
        session.invoke(b"first", timeout=60)
        for name in (b"second", b"third", b"fourth"):
            session.run(name)
        session.flush(60)
        wait_until_true(lambda: "second" in notes(directory, "begin"))
    if how == "down":
        home.ok("flame", "down")
    else:
        home.end()
    for gate in ("second", "third", "fourth"):
        (directory / f"{gate}.go").touch()
    assert "flame is up" in home.up("--executors", "1")
    with connect(home) as connection:
        wait_until_true(lambda: connection.get_session("kept").unfinished == 0, 60)
        view = connection.get_session("kept")
        assert (view.state, view.succeed) == (SessionState.OPEN, 4)
        results = list(connection.results("kept"))
        assert sorted(result.task_id for result in results) == [1, 2, 3, 4]
        with connection.open_session("kept") as session:
            (directory / "fifth.go").touch()
            assert session.invoke(b"fifth", timeout=60)
        connection.close_session("kept")
    assert notes(directory, "end").count("first") == 1
    assert sorted(notes(directory, "end")) == ["fifth", "first", "fourth", "second", "third"]
    assert "Closed" in home.ok("flmctl", "view", "-s", "kept")


def test_a_connection_goes_on_over_a_restart_of_the_whole_cluster(home: Home) -> None:
    home.up("--executors", "1")
    with connect(home) as connection:
        register(connection, "Echo")
        with connection.create_session("echo") as session:
            assert session.invoke(b"1", timeout=60) == b"1"
            home.ok("flame", "down")
            future = session.run(b"2")
            home.up("--executors", "1")
            assert future.result(60) == b"2"


def test_another_store_at_the_same_place_is_noticed(home: Home) -> None:
    home.up("--executors", "1", "--mode", "memory")
    with connect(home) as connection:
        register(connection, "Gated")
        session = connection.create_session("gated", common_data=str(home.path).encode())
        future = session.run(b"never")
        session.flush(60)
        home.ok("flame", "down")
        home.up("--executors", "1", "--mode", "memory")
        with pytest.raises(flame.FlameError, match="store"):
            future.result(60)
