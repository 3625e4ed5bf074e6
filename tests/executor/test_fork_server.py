"""The fork server alone, at the end of a socket pair. (With a node around it: tests/executor_manager.)"""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flame.model.specs import ApplicationSpec
from flame.protocol.launch import (
    EndProcess,
    LaunchReport,
    PingServer,
    PongServer,
    ProcessExited,
    ProcessStarted,
    StartProcess,
    decode_report,
    encode,
)
from flame.protocol.shared_table import PAGE_BYTES, TABLE_BYTES
from tests.executor_manager.rig import alive, title
from tests.support import wait_until_true

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A fork server process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection.settimeout(60)
        self.page = os.memfd_create("page")
        os.ftruncate(self.page, PAGE_BYTES)
        leave, self.leave = os.pipe()
        self.process = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "flame.executor.fork_server", "fork-server", "--data-dir", str(folder),
                "--socket", str(theirs.fileno()), "--page", str(self.page),
                "--leave", str(leave), "--file-limit", "256",
            ],
            pass_fds=(theirs.fileno(), self.page, leave),
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        theirs.close()
        os.close(leave)

    def start(self, executor: str) -> Path:
        directory = self.folder / executor
        directory.mkdir()
        start = StartProcess(
            executor=executor, binding=1, session=1, session_id="s", application="a",
            spec=ApplicationSpec(service="flame.service.flmping:Ping"), endpoint=f"unix://{self.folder}/none",
            data_dir=str(self.folder), temporary_dir=str(directory),
        )  # fmt: skip
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        table = os.memfd_create("table")
        os.ftruncate(table, TABLE_BYTES)
        socket.send_fds(self.connection, [encode(start)], [log, table])
        os.close(log)
        os.close(table)
        return directory

    def hear(self) -> LaunchReport:
        return decode_report(self.connection.recv(1 << 16))


@pytest.fixture
def server(short_tmp: Path) -> Iterator[Server]:
    server = Server(short_tmp)
    yield server
    server.connection.close()
    server.process.wait(30)
    os.close(server.page)
    os.close(server.leave)


def test_it_forks_executors_and_reports_their_ends(server: Server) -> None:
    server.start("e1")
    started = server.hear()
    assert isinstance(started, ProcessStarted)
    wait_until_true(lambda: title(started.pid).startswith(f"flame executor e1 --data-dir {server.folder}"))
    assert title(server.process.pid).startswith(f"flame fork-server --data-dir {server.folder}")
    assert os.getsid(started.pid) == started.pid
    assert resource.prlimit(started.pid, resource.RLIMIT_NOFILE)[0] == 256
    server.connection.send(encode(EndProcess(executor="e1", binding=1, signal=signal.SIGTERM)))
    assert server.hear() == ProcessExited(executor="e1", binding=1, signal=signal.SIGTERM)
    assert not alive(started.pid)


def test_it_answers_after_what_it_was_asked_before(server: Server) -> None:
    server.start("e1")
    server.connection.send(encode(PingServer()))
    assert isinstance(server.hear(), ProcessStarted)
    assert server.hear() == PongServer()


def test_the_end_of_the_executor_manager_ends_everything(server: Server) -> None:
    directory = server.start("e1")
    started = server.hear()
    assert isinstance(started, ProcessStarted)
    server.connection.close()
    assert server.process.wait(30) == 0
    assert not alive(started.pid)
    assert not directory.exists()


def test_the_end_of_the_fork_server_ends_its_executors(server: Server) -> None:
    server.start("e1")
    started = server.hear()
    assert isinstance(started, ProcessStarted)
    wait_until_true(lambda: "executor e1" in title(started.pid))
    server.process.kill()
    wait_until_true(lambda: not alive(started.pid))


def test_something_unreadable_ends_it(server: Server) -> None:
    server.connection.send(b"garbage")
    assert server.process.wait(30) == 1
