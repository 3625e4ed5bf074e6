"""When the launcher takes a fork server that does not answer for dead, and when it does not.

Its clock is the event loop's, which these tests put forward, from ping to ping; the fork server is real, and stopped.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from flame.executor_manager import launcher
from flame.executor_manager.launcher import Exit, Key, Launcher
from flame.model.node_messages import BindExecutor
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec
from flame.sandbox.host import children
from tests.executor_manager.rig import alive, title
from tests.support import wait_until_true

_PING_S = 3600.0
"""Between two pings: so long that a slow machine makes none by itself."""
_KILLED_AFTER = 10
_KILLED_AFTER_AT_START = 60


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


class Host:
    """A launcher in this process."""

    def __init__(self, folder: Path) -> None:
        self.lines: list[str] = []
        self.pids: dict[Key, int] = {}
        self.ends: dict[Key, Exit] = {}
        self.failures: list[BaseException] = []
        self.launcher = Launcher(
            data_dir=folder, temporary_dir=folder / "tmp", node="n", endpoint=f"unix://{folder}/none",
            max_log_bytes=100_000, started=self.pids.__setitem__, exited=self.ends.__setitem__,
            failed=self.failures.append, file_limit=256, log=self.lines.append,
        )  # fmt: skip
        self.launcher.open()
        self.folder = folder
        self._executors = 0

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the loop work until the condition is met."""
        limit_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < limit_s
            await asyncio.sleep(0.001)

    async def launch(self) -> Key:
        """Start an executor, which shows that the fork server answers."""
        self._executors += 1
        key = (f"e{self._executors}", self._executors)
        bind = BindExecutor(
            executor=key[0], binding=key[1], session=1, session_id="s", application="a",
            spec=ApplicationSpec(service="flame.service.flmping:Ping"), resources=Resources(cpu=1),
        )  # fmt: skip
        self.launcher.launch(bind, "store", 1)
        await self.until(lambda: key in self.pids)
        return key

    def fork_server(self) -> int:
        """Process id of the fork server, once it runs Python."""
        mine = f"--data-dir {self.folder} "
        found = [pid for pid in children(os.getpid()) if "fork-server" in title(pid) and mine in title(pid) + " "]
        return found[0] if found else 0

    async def pass_time(self, steps: int, *, leap: int = 1) -> None:
        """Put the clock forward, by `leap` pauses between pings at a time, with passes of the loop after each step."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Clock)
        for _ in range(steps):
            loop.ahead_s += leap * _PING_S
            for _ in range(3):
                await asyncio.sleep(0)


Run = Callable[[Callable[[Host], Awaitable[None]]], None]


@pytest.fixture
def run(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run(test)`: run a test with a launcher."""
    monkeypatch.setattr(launcher, "_PING_S", _PING_S)
    return lambda test: _run(short_tmp, test)


def _run(folder: Path, test: Callable[[Host], Awaitable[None]]) -> None:

    async def within() -> None:
        host = Host(folder)
        try:
            await test(host)
        finally:
            if pid := host.fork_server():
                os.kill(pid, signal.SIGCONT)
            await host.launcher.stop()
        assert not host.failures

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(within())


def stop(pid: int) -> None:
    """SIGSTOP, and wait until it works."""
    os.kill(pid, signal.SIGSTOP)
    wait_until_true(lambda: _state(pid) == "T")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stopped_fork_server_is_killed_and_replaced(run: Run) -> None:
    async def test(host: Host) -> None:
        first = await host.launch()
        pid = host.fork_server()
        stop(pid)
        await host.pass_time(_KILLED_AFTER)
        assert not host.lines
        assert alive(pid)
        await host.pass_time(1)
        silence = f"has not answered for {_KILLED_AFTER * _PING_S:g} s and is killed"
        assert len(host.lines) == 1
        assert host.lines[0].startswith(f"the fork server (process {pid}) {silence}")
        await host.until(lambda: first in host.ends)
        assert host.ends[first] == Exit(None, signal.SIGKILL, "", killed=True)
        await host.until(lambda: not alive(host.pids[first]))  # it comes to init here: this process adopts nobody
        assert not alive(pid)
        await host.launch()
        assert host.fork_server() not in (0, pid)
        assert len(host.lines) == 1

    run(test)


def test_what_was_asked_of_a_stopped_fork_server_ends_with_it(run: Run) -> None:
    async def test(host: Host) -> None:
        await host.launch()
        stop(host.fork_server())
        waiting = asyncio.create_task(host.launch())
        await host.pass_time(_KILLED_AFTER + 1)
        await host.until(lambda: len(host.ends) == 2)
        assert set(host.ends.values()) == {Exit(None, signal.SIGKILL, "", killed=True)}
        waiting.cancel()
        await host.launch()

    run(test)


def test_time_in_which_both_were_stopped_does_not_count(run: Run) -> None:
    async def test(host: Host) -> None:
        await host.launch()
        pid = host.fork_server()
        for _ in range(2 * _KILLED_AFTER):
            stop(pid)
            await host.pass_time(1, leap=60)  # to this process, its own stop is a leap of the clock
            os.kill(pid, signal.SIGCONT)
            await host.launch()
        assert not host.lines
        assert host.fork_server() == pid

    run(test)


def test_one_that_is_slow_is_left_alone(run: Run) -> None:
    async def test(host: Host) -> None:
        await host.launch()
        pid = host.fork_server()
        for _ in range(3):
            stop(pid)
            await host.pass_time(_KILLED_AFTER)
            os.kill(pid, signal.SIGCONT)
            await host.launch()
        assert not host.lines
        assert host.fork_server() == pid

    run(test)


def test_one_that_starts_is_given_more_time_but_not_for_ever(run: Run) -> None:
    async def test(host: Host) -> None:
        await host.until(host.fork_server)
        pid = host.fork_server()
        stop(pid)
        await host.pass_time(_KILLED_AFTER_AT_START)
        assert not host.lines
        assert alive(pid)
        await host.pass_time(1)
        assert f"process {pid}) has not answered" in host.lines[0]
        await host.until(lambda: host.fork_server() not in (0, pid))
        await host.launch()
        assert not host.ends
        assert len(host.lines) == 1

    run(test)
