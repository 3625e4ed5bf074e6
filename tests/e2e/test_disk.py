"""A disk that is nearly full, and one that is full."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import flame
from flame.config import processes
from flame.model.states import SessionState
from tests.cli.commands import Home
from tests.e2e.cluster import PATIENCE_S, Cluster, notes, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true

MIB = 1 << 20
DISK_BYTES = 48 * MIB


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A directory on a file system of its own of 48 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = Path(tempfile.mkdtemp(prefix="ft-", dir="/tmp"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode:
        path.rmdir()
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)
    path.rmdir()


@pytest.fixture
def cluster(small_disk: Path) -> Iterator[Cluster]:
    """A cluster whose data stands on the small disk, with a mark at 16 MiB."""
    made = Cluster(small_disk, limits={"low_space_bytes": 16 * MIB})
    try:
        made.start_session_manager()
        made.start_node("n1", 1)
        yield made
    finally:
        made.end()


def free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def fill(path: Path, left_bytes: int) -> Path:
    """Fill a disk until so much is left."""
    ballast = path / "ballast"
    with open(ballast, "ab") as file:
        while (room := free_bytes(path) - left_bytes) > 0:
            try:
                file.write(b"x" * min(room, MIB))
                file.flush()
            except OSError:
                break
    return ballast


def submit_until_refused(session: flame.Session) -> list[flame.Future]:
    """Submit large tasks until one is refused; return those that were acknowledged."""
    acknowledged: list[flame.Future] = []
    for _ in range(200):
        future = session.run(b"x" * 500_000)
        try:
            assert future.acknowledged(60)
        except flame.ResourceExhausted as error:
            refused = error
            break
        acknowledged.append(future)
    else:
        raise AssertionError("nothing was refused")
    assert "low_space_bytes" in refused.message
    assert "free disk space" in refused.hint
    return acknowledged


def test_a_low_space_mark_refuses_new_work_and_results_still_fit(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.connect() as connection:
        register(connection, "Gated")
        register(connection, "Echo")
        held = connection.create_session("gated", common_data=str(tmp_path).encode())
        waiting = held.run(b"gate")
        session = connection.create_session("echo")
        acknowledged = submit_until_refused(session)
        assert acknowledged
        with pytest.raises(flame.ResourceExhausted, match="full") as error:
            connection.create_session("echo")
        assert "free disk space" in str(error.value)
        # What was accepted is finished, and stored.
        (tmp_path / "gate.go").touch()
        assert waiting.result(60)
        assert cluster.started["session-manager"].poll() is None
        held.close(wait=False)
        session.close(wait=False)


def test_room_again_and_work_goes_on(cluster: Cluster, small_disk: Path) -> None:
    with cluster.connect() as connection:
        register(connection, "Echo")
        session = connection.create_session("echo")
        assert session.invoke(b"1", timeout=60) == b"1"
        ballast = fill(small_disk, 10 * MIB)
        submit_until_refused(session)
        ballast.unlink()

        def accepted() -> bool:
            try:
                return session.run(b"2").acknowledged(60)
            except flame.ResourceExhausted:
                return False

        wait_until_true(accepted, PATIENCE_S, "new work is accepted")
        assert session.invoke(b"3", timeout=60) == b"3"
        connection.create_session("echo").close()
        session.close()


def test_a_full_disk_loses_nothing_that_was_acknowledged(cluster: Cluster, small_disk: Path, tmp_path: Path) -> None:
    with cluster.connect() as connection:
        register(connection, "Gated")
        session = connection.create_session("gated", common_data=str(tmp_path).encode(), session_id="full")
        futures = [session.run(b"%d" % number) for number in range(200)]
        session.flush(60)
        ballast = fill(small_disk, 0)
        for number in range(200):
            (tmp_path / f"{number}.go").touch()
        wait_until_true(
            lambda: cluster.started["session-manager"].poll() is not None or all(future.done() for future in futures),
            PATIENCE_S,
            "it either finishes or ends",
        )
        ballast.unlink()
        if cluster.started["session-manager"].poll() is not None:
            assert "full" in cluster.log("session-manager")
            cluster.kill("session-manager")
            cluster.start_session_manager()
        assert all(future.result(60) for future in futures)
        assert connection.get_session("full").state is SessionState.OPEN
        session.close()
    assert len(set(notes(tmp_path, "end"))) == 200


def test_a_mark_above_what_the_disk_has(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1, limits={"low_space_bytes": 1 << 50})
    with cluster.connect() as connection:
        with pytest.raises(flame.ResourceExhausted) as error:
            connection.create_session("flmping")
        assert "nearly full" in str(error.value)
        assert "free disk space" in str(error.value)
    done = cluster.cli("flmping", "-t", "1")
    assert done.returncode == 1
    assert "nearly full" in done.stderr


def test_up_on_a_disk_that_is_full_from_the_start_says_so_and_leaves_nothing(small_disk: Path) -> None:
    home = Home(small_disk)
    ballast = fill(small_disk, 0)
    try:
        done = home.run("flame", "up", "--port", "0")
        assert done.returncode == 1
        assert f"the disk of {home.data_dir} is full: make room on it" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert processes.find(home.data_dir) == []
        ballast.unlink()
        assert "flame is up" in home.up()
    finally:
        home.end()
