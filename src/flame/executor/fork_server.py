"""The fork server: a process that has imported all an executor needs, and forks one in a millisecond or two.

    python -P -m flame.executor.fork_server fork-server --data-dir DIR --socket FD --page FD --leave FD --file-limit N

One thread, one loop over `poll`: requests of the executor manager (`flame.protocol.launch`), and the deaths of its
children. It adopts the orphans of its executors and kills them: a child of the fork server that is no executor is
something that a service left behind. An exit is reported once nothing of it is left. When the executor manager ends
(end of file on the socket), the fork server kills everything, removes the temporary directories, and ends too.
It is asked all the time whether it still works, so nothing here may take long: services are imported by its children.
"""

import argparse
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import traceback
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec
import setproctitle

from flame.executor.control import EXIT_UNUSABLE
from flame.executor.process import become_executor
from flame.protocol.launch import (
    MAX_LAUNCH_BYTES,
    EndProcess,
    LaunchReport,
    PingServer,
    PongServer,
    ProcessExited,
    ProcessStarted,
    StartProcess,
    decode_request,
    encode,
)
from flame.sandbox.host import (
    adopt_orphans,
    die_with_parent,
    keep_freed_memory,
    kill_children,
    lower_file_limit,
    reap,
    remove_tree,
)

_SWEEP_POLL_MS: Final = 10
_SWEEP_LIMIT_S: Final = 2.0
"""An exit is reported after this time even if something of it cannot be killed (a process that waits for a disk)."""
_DESCRIPTORS: Final = 2
_PRELOADED: Final = (
    "flame", "flame.service.flmping", "dataclasses", "datetime", "functools", "hashlib", "json", "logging", "math",
    "random", "subprocess", "typing",
)  # fmt: skip
"""What most services import: each executor would spend milliseconds on it."""


class _Executor:
    """A forked executor, or one that ended and whose leftovers are being killed."""

    def __init__(self, start: StartProcess) -> None:
        self.start = start
        self.status = 0
        self.ended_s = 0.0


class ForkServer:
    """Forks executors and buries them.

    Args:
        connection: a SOCK_SEQPACKET socket to the executor manager.
        page: descriptor of the node's page.
        leave: descriptor of the pipe that tells executors to leave.
    """

    def __init__(self, connection: socket.socket, page: int, leave: int) -> None:
        self._connection = connection
        self._page = page
        self._leave = leave
        self._live: dict[int, _Executor] = {}
        self._ended: list[_Executor] = []
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._over = False

    def serve(self) -> None:
        """Work until the executor manager is gone; then nothing is left of any executor."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._over:
            events = poll.poll(_SWEEP_POLL_MS if self._ended else None)
            for descriptor, _ in events:
                if descriptor == self._wake_read:
                    _drain(self._wake_read)
                else:
                    self._receive()
            self._bury()
        self._end_everything()

    def _stop(self, number: int, frame: object) -> None:
        self._over = True

    # --- requests --------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._connection, MAX_LAUNCH_BYTES, _DESCRIPTORS)
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            self._over = True
            return
        try:
            request = decode_request(data)
            match request:
                case StartProcess():
                    self._start(request, log=descriptors[0], table=descriptors[1])
                case EndProcess():
                    self._signal(request)
                case PingServer():
                    self._report(PongServer())
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _start(self, start: StartProcess, *, log: int, table: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            failure = f"executor {start.executor} cannot be started: fork: {error.strerror}"
            self._report(ProcessExited(executor=start.executor, binding=start.binding, failure=failure))
            return
        if pid == 0:
            try:
                self._leave_child()
                become_executor(start, parent, log=log, table=table, page=self._page, leave=self._leave)
            finally:  # whatever happens in a child, the fork server's code is not for it
                traceback.print_exc()
                os._exit(EXIT_UNUSABLE)
        self._live[pid] = _Executor(start)
        self._report(ProcessStarted(executor=start.executor, binding=start.binding, pid=pid))

    def _leave_child(self) -> None:
        """In the child: nothing of the fork server stays."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self._connection.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._live.clear()

    def _signal(self, request: EndProcess) -> None:
        for pid, executor in self._live.items():
            if executor.start.executor == request.executor and executor.start.binding == request.binding:
                os.kill(pid, request.signal)

    def _report(self, report: LaunchReport) -> None:
        try:
            self._connection.send(encode(report))
        except OSError:  # the executor manager is gone, the loop will see that
            self._over = True

    # --- deaths ----------------------------------------------------------------------------------------------------

    def _bury(self) -> None:
        """Reap, kill what the dead left behind, and report the exits of which nothing is left."""
        for pid, status in reap():
            executor = self._live.pop(pid, None)
            if executor:
                executor.status = status
                executor.ended_s = time.monotonic()
                self._ended.append(executor)
        # Without an executor's death there are no orphans: it adopts those of its own children.
        if not self._ended:
            return
        dirty = kill_children(self._live)
        patience_s = time.monotonic() - _SWEEP_LIMIT_S
        for executor in [ended for ended in self._ended if not dirty or ended.ended_s < patience_s]:
            self._ended.remove(executor)
            code = os.waitstatus_to_exitcode(executor.status)
            self._report(
                ProcessExited(
                    executor=executor.start.executor,
                    binding=executor.start.binding,
                    exit_code=code if code >= 0 else None,
                    signal=-code if code < 0 else 0,
                )
            )

    def _end_everything(self) -> None:
        # A directory is removed when nobody can write to it any more.
        directories = [executor.start.temporary_dir for executor in (*self._live.values(), *self._ended)]
        limit_s = time.monotonic() + _SWEEP_LIMIT_S
        while kill_children(()) and time.monotonic() < limit_s:
            time.sleep(_SWEEP_POLL_MS / 1000)
            reap()
        for directory in directories:
            remove_tree(directory)


def _ignore(number: int, frame: object) -> None:
    """A handler, so that the wake-up descriptor is written to."""


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 512):
            pass


def _warm_up() -> None:
    """Do once what each executor would do again: what is imported or made on first use."""
    for name in _PRELOADED:
        importlib.import_module(name)
    array("I", b"")
    select.poll()
    # Objects from before the fork are never collected: the collector would write to their pages and copy them.
    gc.collect()
    gc.freeze()


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="fork-server")
    parser.add_argument("component", choices=["fork-server"])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--page", type=int, required=True)
    parser.add_argument("--leave", type=int, required=True)
    parser.add_argument("--file-limit", type=int, required=True)
    options = parser.parse_args(arguments)
    die_with_parent(signal.SIGTERM)
    adopt_orphans()
    keep_freed_memory()
    lower_file_limit(options.file_limit)
    setproctitle.setproctitle(f"flame fork-server --data-dir {options.data_dir}")
    for descriptor in (options.socket, options.page, options.leave):
        os.set_inheritable(descriptor, False)
    connection = socket.socket(fileno=options.socket)
    _warm_up()
    try:
        ForkServer(connection, options.page, options.leave).serve()
    except msgspec.DecodeError as error:
        sys.exit(f"flame fork-server: the executor manager sent something unreadable: {error}")


if __name__ == "__main__":
    main()
