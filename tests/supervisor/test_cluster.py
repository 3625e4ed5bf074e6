"""What `flame up` checks before it starts anything; the rest is in `tests/cli/test_cluster_commands.py`."""

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flame.config import paths, processes
from flame.model.errors import ConfigurationError, FailedPrecondition, InvalidArgument, Unavailable
from flame.supervisor import cluster
from flame.supervisor.settings import Settings
from tests.support import wait_until_true

Running = Callable[..., Settings]


def test_default_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    if len(str(tmp_path)) < 50:
        assert cluster.normal_data_dir(None) == f"{tmp_path}/.local/share/flame"
    assert cluster.normal_data_dir("~/d").startswith(str(tmp_path))


def test_data_directory_has_one_name_whatever_the_way(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (short_tmp / "real").mkdir()
    (short_tmp / "link").symlink_to(short_tmp / "real")
    monkeypatch.chdir(short_tmp)
    names = {cluster.normal_data_dir(path) for path in ("real", "./link/", f"{short_tmp}/x/../real")}
    assert names == {str(short_tmp / "real")}


@pytest.mark.parametrize("path", ["/" + "x" * 82, "/tmp/" + "é" * 40, "/a\nb", "/a\0b"])
def test_data_directory_that_cannot_be(path: str) -> None:
    with pytest.raises(InvalidArgument, match="data directory"):
        cluster.normal_data_dir(path)


def test_longest_data_directory() -> None:
    path = "/" + "x" * 81
    assert cluster.normal_data_dir(path) == path
    assert len(f"{path}/run/session-manager.sock") == 107


def test_data_directory_is_made_private(tmp_path: Path) -> None:
    cluster.make_data_dir(str(tmp_path / "a/b"))
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


def test_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="Not a directory"):
        cluster.make_data_dir(str(tmp_path / "file/x"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter everything")
def test_data_directory_that_may_not_be_entered(short_tmp: Path) -> None:
    (short_tmp / "d").mkdir(mode=0o600)
    with pytest.raises(ConfigurationError, match="another user's"):
        cluster.normal_data_dir(str(short_tmp / "d"))


def test_a_supervisor_of_another_user(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(processes, "find", lambda data_dir: [processes.Process(17, "supervisor")])
    with pytest.raises(FailedPrecondition, match=r"supervisor \(pid 17\) belongs to another user"):
        cluster.down(str(short_tmp))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_directory_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(ConfigurationError, match="permission"):
        cluster.make_data_dir(str(tmp_path))


def test_nothing_runs_of_a_directory_that_does_not_exist(short_tmp: Path) -> None:
    found = cluster.status(str(short_tmp / "none"))
    assert not found.running
    assert set(found.pids.values()) == {0}
    assert cluster.down(str(short_tmp / "none")) == 0


def test_data_directory_without_a_name_or_that_is_a_file(short_tmp: Path) -> None:
    (short_tmp / "file").touch()
    for path, text in (("", "is empty"), (str(short_tmp / "file"), "is no directory")):
        with pytest.raises(InvalidArgument, match=text):
            cluster.normal_data_dir(path)


@pytest.mark.parametrize("runs", [False, True], ids=["first start", "it runs"])
def test_what_is_stopped_while_it_is_waited_for_is_told_at_once(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, runs: bool
) -> None:
    monkeypatch.setenv("HOME", str(short_tmp))
    settings = Settings(str(short_tmp / "d"))
    said: list[str] = []
    if runs:
        cluster.up(settings, lambda _: True, said.append)

    def stop(_: str) -> bool:
        cluster.down(settings.data_dir)
        return False

    with pytest.raises(Unavailable, match="it was stopped meanwhile"):
        cluster.up(settings, stop, said.append, timeout_s=1000)  # which the test would not survive
    assert not any(cluster.status(settings.data_dir).pids.values())
    assert said == []


@pytest.mark.parametrize("visible", [True, False])
def test_an_interrupt_right_after_the_start_leaves_nothing(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch, visible: bool
) -> None:
    """Also where what was started has no command line yet, by which it could be found."""
    monkeypatch.setenv("HOME", str(short_tmp))
    settings = Settings(str(short_tmp / "d"))
    start = cluster._start_supervisor
    started: list[int] = []
    if not visible:
        monkeypatch.setattr(processes, "find", lambda data_dir: [])

    def start_interrupted(settings: Settings) -> int:
        pid = start(settings)
        started.append(pid)
        # Of this thread alone, which `flame up` has: another one would take it, though it is blocked here.
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        return pid

    monkeypatch.setattr(cluster, "_start_supervisor", start_interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster.up(settings, lambda _: True, print)
    assert processes.find(settings.data_dir) == []
    wait_until_true(lambda: os.waitpid(started[0], os.WNOHANG)[0] == started[0])


def test_a_supervisor_that_is_started_while_the_cluster_is_stopped_ends_too(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(short_tmp))
    settings = Settings(str(short_tmp / "d"))
    cluster.up(settings, lambda _: True, print)
    late: list[int] = []
    remaining = processes.find

    def find(data_dir: str) -> list[processes.Process]:
        found = remaining(data_dir)
        if not found and not late:
            late.append(cluster._start_supervisor(settings))
            wait_until_true(lambda: remaining(data_dir))  # its command line is there a moment after the process
            found = remaining(data_dir)
        return found

    monkeypatch.setattr(processes, "find", find)
    cluster.down(settings.data_dir)
    assert late
    assert os.waitpid(late[0], os.WNOHANG)[0] == late[0]
    assert not any(cluster.status(settings.data_dir).pids.values())


def test_no_answer_in_time_leaves_nothing(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(short_tmp))
    settings = Settings(str(short_tmp / "d"))
    with pytest.raises(Unavailable, match=r"no answer within 1 s.*logs are in"):
        cluster.up(settings, lambda _: False, print, timeout_s=1)
    assert not any(cluster.status(settings.data_dir).pids.values())


def test_elsewhere_than_on_linux_it_says_so_and_makes_nothing(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(FailedPrecondition, match="on Linux only for now, not on darwin"):
        cluster.up(Settings(data_dir=f"{short_tmp}/d"), lambda _: True, print)
    assert not list(short_tmp.iterdir())


@pytest.fixture
def running(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Starts a cluster in one mode; it is stopped in the end."""
    monkeypatch.setenv("HOME", str(short_tmp))
    started: list[Settings] = []

    def start(mode: str = "durable") -> Settings:
        started.append(Settings(str(short_tmp / "d"), mode=mode))
        cluster.up(started[0], lambda _: True, print)
        return started[0]

    yield start
    for settings in started:
        cluster.down(settings.data_dir)


@pytest.mark.parametrize("instead", ["nothing", "a dead socket"])
def test_a_session_manager_whose_socket_was_removed_listens_again(running: Running, instead: str) -> None:
    settings = running("memory")
    before = cluster.status(settings.data_dir).pids
    os.unlink(settings.socket_path)
    if instead == "a dead socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(settings.socket_path)
    wait_until_true(lambda: cluster.status(settings.data_dir).running)
    said: list[str] = []
    cluster.up(settings, lambda _: True, said.append)
    assert said == []
    assert cluster.status(settings.data_dir).pids == before
    log = Path(paths.log_file(settings.data_dir, "session-manager")).read_text()
    assert log.count("its file was removed, listening there again") == 1


def test_a_session_manager_whose_place_became_a_file_goes_on_and_is_back_with_it(running: Running) -> None:
    settings = running("memory")
    before = cluster.status(settings.data_dir).pids["session-manager"]
    place = Path(settings.socket_path).parent
    log = Path(paths.log_file(settings.data_dir, "session-manager"))
    place.rename(f"{place}.away")
    place.touch()
    wait_until_true(lambda: "nobody can connect any more" in log.read_text())
    place.unlink()
    Path(f"{place}.away").rename(place)
    assert cluster.status(settings.data_dir).pids["session-manager"] == before
    assert "Traceback" not in log.read_text()


def test_a_session_manager_that_is_slow_is_left_alone(running: Running) -> None:
    settings = running()
    before = cluster.status(settings.data_dir).pids
    os.kill(before["session-manager"], signal.SIGSTOP)
    try:
        said: list[str] = []
        with pytest.raises(Unavailable, match="no answer within"):
            cluster.up(settings, lambda _: False, said.append, timeout_s=0.1)
    finally:
        os.kill(before["session-manager"], signal.SIGCONT)
    assert said == []
    assert cluster.status(settings.data_dir).pids == before


def test_a_running_cluster_whose_configuration_is_gone_is_not_given_another(running: Running) -> None:
    settings = running("memory")
    before = cluster.status(settings.data_dir).pids
    shutil.rmtree(f"{settings.data_dir}/conf")
    with pytest.raises(FailedPrecondition, match="the configuration of the running cluster is lost"):
        cluster.up(settings, lambda _: True, print)
    assert cluster.status(settings.data_dir).pids == before


@pytest.mark.parametrize("component", ["supervisor", "executor-manager", "session-manager"])
def test_down_ends_what_is_stopped(running: Running, component: str) -> None:
    settings = running()
    pid = cluster.status(settings.data_dir).pids[component]
    os.kill(pid, signal.SIGSTOP)
    began_s = time.monotonic()
    cluster.down(settings.data_dir)
    assert time.monotonic() - began_s < cluster.DOWN_TIMEOUT_S / 2
    assert not any(cluster.status(settings.data_dir).pids.values())


def test_what_stands_in_the_place_of_a_socket_is_not_touched(running: Running) -> None:
    settings = running()
    before = cluster.status(settings.data_dir).pids
    Path(settings.socket_path).unlink()
    Path(settings.socket_path).write_text("mine")
    with pytest.raises(FailedPrecondition, match=r"not the socket of the session manager .*remove what stands there"):
        cluster.up(settings, lambda _: True, print)
    assert Path(settings.socket_path).read_text() == "mine"
    assert cluster.status(settings.data_dir).pids == before
