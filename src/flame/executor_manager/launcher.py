"""Starts, watches and buries executors through the fork server.

The launcher owns what an executor has on this node: its shared table, its log, its temporary directory, and its pid. It
calls back when a process was started and when nothing of it is left.
"""

import asyncio
import contextlib
import errno
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final, NamedTuple

from flame.executor_manager.logs import LogDirectory, LogPipe
from flame.model.node_messages import BindExecutor
from flame.protocol.launch import (
    MAX_LAUNCH_BYTES,
    EndProcess,
    PingServer,
    PongServer,
    ProcessExited,
    ProcessStarted,
    StartProcess,
    decode_report,
    encode,
)
from flame.protocol.shared_table import LEASE_END, PAGE_BYTES, TABLE_BYTES, SharedTable
from flame.sandbox.host import kill_children, reap, remove_tree

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_SWEEP_PAUSE_S: Final = 0.01
_SWEEP_LIMIT_S: Final = 5.0
_SHORT_TASK_S: Final = 0.05
"""At an orderly stop: what runs then may end within this time, so that its executor can leave."""
_LEAVE_S: Final = 1.5
"""And this long may an executor take to leave, or to heed SIGTERM."""
_STOP_LIMIT_S: Final = 5.0
_PING_S: Final = 1.0
_MOST_UNANSWERED: Final = 10
"""A fork server that has said nothing for so many pings is killed. Pings are counted, not seconds: while this process
is stopped too, with its machine or alone, it sends none, and what is answered it reads before it sends the next one."""
_MOST_UNANSWERED_AT_START: Final = 60
"""The same until its first answer: it has to import everything, on a busy machine from a slow disk."""

Key = tuple[str, int]


class Exit(NamedTuple):
    """How an executor ended.

    Args:
        exit_code: None where a signal ended it, or it never ran.
        signal: number of the signal, or 0.
        failure: why it could not be started, or empty.
        killed: it ended with its fork server, or this node had no room to start it: for no fault of its own.
    """

    exit_code: int | None
    signal: int
    failure: str
    killed: bool = False


class NodePage:
    """The page that tells all executors of the node when its lease ends."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("flame-node", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, PAGE_BYTES)
        self._words = memoryview(mmap.mmap(self.descriptor, PAGE_BYTES)).cast("Q")

    def set_lease_end(self, end_ns: int) -> None:
        """Let executors start tasks until `end_ns` (CLOCK_BOOTTIME)."""
        self._words[LEASE_END] = end_ns


class _Process:
    """What one executor has here."""

    def __init__(self, start: StartProcess, pipe: LogPipe) -> None:
        self.start = start
        self.pipe = pipe
        self.descriptor = os.memfd_create("flame-executor", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, TABLE_BYTES)
        self.map = mmap.mmap(self.descriptor, TABLE_BYTES)
        self.table = SharedTable(memoryview(self.map), threading.Lock())
        self.pid = 0
        self.sent = False
        self.buried = False
        self.grace: asyncio.TimerHandle | None = None

    def close(self) -> None:
        os.close(self.descriptor)
        self.table.release()
        self.map.close()


class Launcher:
    """Starts executors; all methods belong to the event loop's thread, which must be the main thread.

    Args:
        data_dir: absolute path; logs go to `log/` below it.
        temporary_dir: parent of the executors' temporary directories.
        node: the node's name.
        endpoint: frame endpoint for the executors.
        max_log_bytes: per executor.
        started: called with key and pid.
        exited: called with key and `Exit`, once per launched executor; its table can still be read.
        failed: called with an exception that the launcher cannot go on after.
        file_limit: soft limit of open files for the executors.
        log: takes lines for the operator.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        temporary_dir: Path,
        node: str,
        endpoint: str,
        max_log_bytes: int,
        started: Callable[[Key, int], None],
        exited: Callable[[Key, Exit], None],
        failed: Callable[[BaseException], None],
        file_limit: int,
        log: Callable[[str], None],
    ) -> None:
        self._data_dir = data_dir
        self._temporary_dir = temporary_dir
        self._node = node
        self._endpoint = endpoint
        self._logs = LogDirectory(data_dir / "log" / f"node-{node}", max_log_bytes)
        self._started = started
        self._exited = exited
        self._failed = failed
        self._file_limit = file_limit
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._processes: dict[Key, _Process] = {}
        self._outbox: deque[StartProcess | EndProcess] = deque()
        self._server: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._ping: asyncio.TimerHandle | None = None
        self._unanswered = 0
        self._most_unanswered = _MOST_UNANSWERED_AT_START
        self._pause_s = _FIRST_PAUSE_S
        self._tasks: set[asyncio.Task[None]] = set()
        self._cleared = asyncio.Event()
        self._stopping = False
        # Its end of file tells all executors to leave.
        self._leave_read, self._leave_write = os.pipe2(os.O_CLOEXEC)
        self.page = NodePage()

    # --- what the node asks for ------------------------------------------------------------------------------------

    def launch(self, bind: BindExecutor, store_id: str, epoch: int) -> tuple[SharedTable, str]:
        """Start an executor; returns its table and the path of its log.

        Raises:
            OSError: its log or temporary directory cannot be made, or descriptors ran out.
        """
        directory = self._temporary_dir / f"{bind.binding:x}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        start = StartProcess(
            executor=bind.executor,
            binding=bind.binding,
            session=bind.session,
            session_id=bind.session_id,
            application=bind.application,
            spec=bind.spec,
            endpoint=self._endpoint,
            node=self._node,
            store_id=store_id,
            epoch=epoch,
            data_dir=str(self._data_dir),
            temporary_dir=str(directory),
        )
        log = self._logs.open(bind.executor)
        try:
            process = _Process(start, LogPipe(log))
        except OSError:
            log.close()
            self._logs.ended(log)
            raise
        self._processes[bind.executor, bind.binding] = process
        self._loop.add_reader(process.pipe.read_end, self._pump, process)
        self._send(start)
        return process.table, str(log.path)

    def kill(self, key: Key, grace_ms: int = 0) -> None:
        """Kill an executor, with SIGTERM and after `grace_ms` with SIGKILL."""
        process = self._processes.get(key)
        if process is None or process.buried:
            return
        if process.grace:
            process.grace.cancel()
            process.grace = None
        if not process.sent:
            self._outbox.remove(process.start)
            self._bury(key, process, Exit(None, 0, "it was ended before it was started"))
        elif grace_ms:
            self._send(EndProcess(executor=key[0], binding=key[1], signal=signal.SIGTERM))
            process.grace = self._loop.call_later(grace_ms / 1000, self.kill, key)
        else:
            self._send(EndProcess(executor=key[0], binding=key[1], signal=signal.SIGKILL))

    # --- the fork server -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the fork server. Blocks for the milliseconds of a process start."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_LAUNCH_BYTES)
        command = [
            sys.executable, "-P", "-m", "flame.executor.fork_server", "fork-server",
            "--data-dir", str(self._data_dir), "--socket", str(theirs.fileno()), "--page", str(self.page.descriptor),
            "--leave", str(self._leave_read), "--file-limit", str(self._file_limit),
        ]  # fmt: skip
        try:
            self._server = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(), self.page.descriptor, self._leave_read),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._connection = ours
        self._loop.add_reader(ours, self._receive)
        self._unanswered, self._most_unanswered = 0, _MOST_UNANSWERED_AT_START
        self._ping = self._loop.call_later(_PING_S, self._ask, ours, self._server)
        self._flush()

    def _ask(self, connection: socket.socket, server: subprocess.Popen[bytes]) -> None:
        """Ask the fork server whether it works; end one that has not answered for long, as a stopped one."""
        if self._unanswered >= self._most_unanswered:
            silence_s = self._unanswered * _PING_S
            self._log(
                f"the fork server (process {server.pid}) has not answered for {silence_s:g} s and is killed; "
                "its executors end with it, and another one is started"
            )
            # With its group: what it has just forked holds the connection too, whose end of file comes next.
            os.killpg(server.pid, signal.SIGKILL)
            return
        self._unanswered += 1
        with contextlib.suppress(OSError):  # full: it is silent so far; or gone, which its end of file tells
            connection.send(encode(PingServer()))
        self._ping = self._loop.call_later(_PING_S, self._ask, connection, server)

    def _send(self, request: StartProcess | EndProcess) -> None:
        self._outbox.append(request)
        self._flush()

    def _flush(self) -> None:
        while self._outbox and self._connection:
            request = self._outbox[0]
            try:
                self._write(self._connection, request)
            except BlockingIOError:
                self._loop.add_writer(self._connection, self._flush)
                return
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    return  # the fork server is gone, which its end of file tells
                self._outbox.popleft()
                key = (request.executor, request.binding)
                failure = "its application's specification (environment, paths) is too large for a start request"
                self._bury(key, self._processes[key], Exit(None, 0, failure))
                continue
            self._outbox.popleft()
        if self._connection:
            self._loop.remove_writer(self._connection)

    def _write(self, connection: socket.socket, request: StartProcess | EndProcess) -> None:
        if isinstance(request, EndProcess):
            connection.send(encode(request))
            return
        process = self._processes[request.executor, request.binding]
        socket.send_fds(connection, [encode(request)], [process.pipe.write_end, process.descriptor])
        process.sent = True
        process.pipe.handed_over()

    def _receive(self) -> None:
        assert self._connection is not None
        try:
            data = self._connection.recv(MAX_LAUNCH_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._lost()
            return
        self._unanswered, self._most_unanswered = 0, _MOST_UNANSWERED
        report = decode_report(data)
        if isinstance(report, PongServer):
            return
        self._pause_s = _FIRST_PAUSE_S
        key = (report.executor, report.binding)
        process = self._processes.get(key)
        if process is None:
            return
        match report:
            case ProcessStarted(pid=pid):
                process.pid = pid
                self._started(key, pid)
            case ProcessExited(exit_code=exit_code, signal=number, failure=failure):
                if failure:  # no process or memory was free: this node's fault, not the session's
                    self._log(failure)
                self._bury(key, process, Exit(exit_code, number, failure, killed=bool(failure)))

    # --- ends ------------------------------------------------------------------------------------------------------

    def _bury(self, key: Key, process: _Process, end: Exit) -> None:
        """The process is gone: remove what it had here, then tell."""
        if not process.buried:
            process.buried = True
            self._spawn(self._clear_away(key, process, end))

    async def _clear_away(self, key: Key, process: _Process, end: Exit) -> None:
        if process.grace:
            process.grace.cancel()
        self._loop.remove_reader(process.pipe.read_end)
        process.pipe.close()
        self._logs.ended(process.pipe.log)
        if not _remove_empty(process.start.temporary_dir):
            await asyncio.to_thread(remove_tree, process.start.temporary_dir)
        del self._processes[key]
        self._exited(key, end)
        process.close()
        self._cleared.set()

    def _pump(self, process: _Process) -> None:
        if not process.pipe.pump():
            self._loop.remove_reader(process.pipe.read_end)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._failed(error)

    def _lost(self) -> None:
        """The fork server ended. Its executors end with it; what they leave comes to this process."""
        self._disconnect()
        self._cleared.set()
        if not self._stopping:
            self._spawn(self._recover())

    def _disconnect(self) -> None:
        if self._ping:
            self._ping.cancel()
            self._ping = None
        if self._connection:
            self._loop.remove_reader(self._connection)
            self._loop.remove_writer(self._connection)
            self._connection.close()
            self._connection = None

    async def _recover(self) -> None:
        statuses = await self._sweep()
        self._outbox = deque(request for request in self._outbox if isinstance(request, StartProcess))
        for key, process in list(self._processes.items()):
            if process.sent:
                self._bury(key, process, _end_with_server(process.pid, statuses))
        while not self._stopping and not self._connection:
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            with contextlib.suppress(OSError):  # no process or descriptor is free: try again
                self.open()

    async def _sweep(self) -> dict[int, int]:
        """Kill and reap every child of this process, the fork server among them; returns their wait statuses."""
        statuses: dict[int, int] = {}
        limit_s = self._loop.time() + _SWEEP_LIMIT_S
        while self._loop.time() < limit_s:
            statuses.update(reap())
            if not kill_children(()):
                break
            await asyncio.sleep(_SWEEP_PAUSE_S)
        if self._server:
            self._server.returncode = 0  # reaped above; Popen must not wait for a pid that is another's by now
            self._server = None
        return statuses

    async def stop(self) -> None:
        """End all executors and the fork server; everything is gone afterwards.

        Whoever runs no task leaves its session; a running task cannot be waited for. SIGTERM comes before SIGKILL.
        """
        self._stopping = True
        os.close(self._leave_write)
        await self._wait_buried(_SHORT_TASK_S)
        for key, process in list(self._processes.items()):
            if process.table.current or not process.table.entered:
                self.kill(key, round(_LEAVE_S * 1000))
        await self._wait_buried(_LEAVE_S)
        for key in list(self._processes):
            self.kill(key)
        await self._wait_buried(_STOP_LIMIT_S)
        self._disconnect()
        if self._server:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._server.wait, _STOP_LIMIT_S)
        await self._sweep()
        await asyncio.to_thread(remove_tree, str(self._temporary_dir))
        os.close(self._leave_read)

    async def _wait_buried(self, limit_s: float) -> None:
        """Wait until every executor is buried, as long as there is a fork server that tells."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._processes and self._connection:
                    self._cleared.clear()
                    await self._cleared.wait()


def _end_with_server(pid: int, statuses: dict[int, int]) -> Exit:
    """How the executor `pid` (0 where none was started) ended when its fork server did."""
    if not pid:
        return Exit(None, signal.SIGKILL, "", killed=True)
    code = os.waitstatus_to_exitcode(statuses.get(pid, signal.SIGKILL))
    return Exit(code if code >= 0 else None, -min(code, 0), "", killed=code == -signal.SIGKILL)


def _remove_empty(path: str) -> bool:
    """Most services leave nothing: no thread is needed for that."""
    try:
        os.rmdir(path)
    except OSError:
        return not os.path.lexists(path)
    return True
