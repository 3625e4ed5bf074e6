"""The process of an executor, from its fork to its end.

The main thread belongs to the user's service; it never returns to the fork server's code.
"""

import contextlib
import mmap
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Final, NoReturn

import setproctitle

from flame.executor.control import EXIT_UNUSABLE, Control
from flame.executor.failures import failure_of
from flame.executor.services import ServiceUnusable, load_service
from flame.executor.tasks import TaskLoop, reset_forks
from flame.model.errors import FailureRecord
from flame.protocol.executor import ExecutorHalf
from flame.protocol.launch import StartProcess
from flame.protocol.shared_table import MAX_FAILURE_BYTES, PAGE_BYTES, TABLE_BYTES, Phase, SharedTable
from flame.sandbox.host import adopt_orphans, die_with_parent
from flame.service import FlameService, SessionContext

_FLUSH_S: Final = 1.0
_SWITCH_INTERVAL_S: Final = 0.001
"""How long the main thread may keep the interpreter from the control thread; Python's default is 5 ms."""
_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")


def become_executor(start: StartProcess, parent: int, *, log: int, table: int, page: int, leave: int) -> NoReturn:
    """Turn a fresh fork of the fork server into an executor; returns never.

    Args:
        start: what to be.
        parent: process id of the fork server.
        log, table, page: descriptors of the log's pipe, the executor's shared table and the node's page.
        leave: descriptor of a pipe whose end of file says that the node ends.
    """
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_UNUSABLE)
    os.setsid()
    reset_forks()
    adopt_orphans()
    _redirect(log)
    table_map = mmap.mmap(table, TABLE_BYTES)
    page_map = mmap.mmap(page, PAGE_BYTES, prot=mmap.PROT_READ)
    os.close(table)
    os.close(page)
    _hide_maps()
    setproctitle.setproctitle(f"flame executor {start.executor} --data-dir {start.data_dir}")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    process = ExecutorProcess(
        start, SharedTable(memoryview(table_map), threading.Lock()), memoryview(page_map).cast("Q"), leave
    )
    try:
        code = process.run()
    except BaseException as error:
        print(failure_of(error).traceback, file=sys.stderr)  # noqa: T201
        code = EXIT_UNUSABLE
    _end(code)


def _hide_maps() -> None:
    """Let the descriptors that `mmap` keeps of what it has mapped lead nowhere: services write to the wrong ones."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself is closed by now
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:flame-"):
                os.dup2(null, int(name), inheritable=False)
    os.close(null)


def _redirect(log: int) -> None:
    """Standard input from nowhere, output and errors to the log, line by line."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    for stream, descriptor in (("stdout", 1), ("stderr", 2)):
        text = os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, stream, text)
        setattr(sys, f"__{stream}__", text)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)


def _end(code: int) -> NoReturn:
    """End at once: threads that the service left behind and `atexit` functions must not keep an executor alive."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class ExecutorProcess:
    """One executor, bound to one session.

    Args:
        start: what it was started for.
        table: its shared table.
        page: the node's page, as words.
        leave: descriptor of a pipe whose end of file says that the node ends.
    """

    def __init__(self, start: StartProcess, table: SharedTable, page: memoryview, leave: int) -> None:
        self._start = start
        self._table = table
        self._page = page
        self._leave_pipe = leave
        self._half = ExecutorHalf(
            executor=start.executor,
            binding=start.binding,
            session=start.session,
            pid=os.getpid(),
            table=table,
            software="flame",
            store_id=start.store_id,
            epoch=start.epoch,
        )
        self._control = Control(self._half, start.endpoint, page)

    def run(self) -> int:
        """Live an executor's life; returns the exit code."""
        self._enter_phase(Phase.STARTING)
        self._control.connect()
        try:
            service, session_id = self._enter()
        except ServiceUnusable as unusable:
            self._fail(unusable.record)
            return EXIT_UNUSABLE
        self._enter_phase(Phase.BOUND)
        self._control.entered()
        threading.Thread(target=self._await_dismissal, name="flame-leave", daemon=True).start()
        loop = TaskLoop(service, session_id, self._half, self._table.words, self._page)
        while run := self._control.turn():
            loop.run(run)
        self._leave(service)
        return 0

    def _enter(self) -> tuple[FlameService, str]:
        start = self._start
        self._enter_phase(Phase.IMPORTING)
        prepare_environment(start)
        service = load_service(start.spec.service)
        self._enter_phase(Phase.WAITING)
        enter = self._control.wait_enter()
        self._enter_phase(Phase.ENTERING)
        context = SessionContext(
            session_id=enter.session_id, application=enter.application, common_data=enter.common_data
        )
        try:
            service.on_session_enter(context)
        except BaseException as error:
            raise ServiceUnusable(failure_of(error, f"session enter of {start.spec.service} raised")) from error
        return service, enter.session_id

    def _fail(self, record: FailureRecord) -> None:
        data = record.encode()
        if len(data) > MAX_FAILURE_BYTES:
            data = FailureRecord(record.message[:1000], type=record.type).encode()
        self._table.fail(data)
        print(f"flame: {record.message}\n{record.traceback}", file=sys.stderr)  # noqa: T201
        self._control.enter_failed(data)
        self._control.close(_FLUSH_S)

    def _await_dismissal(self) -> None:
        with contextlib.suppress(OSError):  # a service may close what it does not know
            os.read(self._leave_pipe, 1)
            self._control.dismiss()

    def _leave(self, service: FlameService) -> None:
        self._enter_phase(Phase.LEAVING)
        failure = b""
        try:
            service.on_session_leave()
        except BaseException as error:
            record = failure_of(error, f"session leave of {self._start.spec.service} raised")
            print(f"flame: {record.message}\n{record.traceback}", file=sys.stderr)  # noqa: T201
            failure = record.encode()
        self._enter_phase(Phase.LEFT)
        self._control.left(failure)
        self._control.close(_FLUSH_S)

    def _enter_phase(self, phase: Phase) -> None:
        self._table.enter_phase(phase, time.clock_gettime_ns(time.CLOCK_BOOTTIME))


def prepare_environment(start: StartProcess) -> None:
    """Give the process the application's environment, directory and import path.

    Beside the application's own variables, in which `${NAME}` stands for a variable of the node or an earlier one, a
    service sees FLAME_ENDPOINT, FLAME_SESSION_ID, FLAME_APPLICATION, FLAME_EXECUTOR, FLAME_NODE, and TMPDIR, a
    directory of its own that is removed after its end. That is also where it starts, unless the application has a
    working directory.

    Raises:
        ServiceUnusable: the working directory cannot be entered.
    """
    spec = start.spec
    sys.argv = [spec.service.rpartition(":")[0]]
    os.environ.update(
        FLAME_ENDPOINT=start.endpoint,
        FLAME_SESSION_ID=start.session_id,
        FLAME_APPLICATION=start.application,
        FLAME_EXECUTOR=start.executor,
        FLAME_NODE=start.node,
        TMPDIR=start.temporary_dir,
    )
    tempfile.tempdir = None
    for name, value in spec.environments:
        os.environ[name] = _VARIABLE.sub(lambda match: os.environ.get(match[1], ""), value)
    if any(name == "PYTHONPATH" for name, _ in spec.environments):
        _import_from([path for path in os.environ["PYTHONPATH"].split(os.pathsep) if path])
    try:
        os.chdir(spec.working_directory or start.temporary_dir)
    except OSError as error:
        message = f"working directory {spec.working_directory} of application {start.application}: {error.strerror}"
        raise ServiceUnusable(FailureRecord(message, type=type(error).__name__)) from error
    if spec.working_directory:
        _import_from([spec.working_directory])


def _import_from(paths: Sequence[str]) -> None:
    sys.path[:0] = [path for path in paths if path not in sys.path]
