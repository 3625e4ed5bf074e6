"""The supervisor: starts the components of a local cluster, restarts them, and ends everything below it.

Its components are its children; it is their reaper too (`PR_SET_CHILD_SUBREAPER`), so that what a dead component
leaves behind becomes its child and is killed. A supervisor that is killed leaves the components running; the next one
adopts them: it finds them by their command lines and looks ten times a second whether they still live.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from flame.config import paths, processes
from flame.supervisor import settings as layout
from flame.supervisor.component import Component
from flame.supervisor.settings import Settings

STOP_GRACE_S = 10.0
"""From SIGTERM to SIGKILL."""
KILL_GRACE_S = 10.0
"""How long killed processes may take to vanish."""
ORPHANS_S = 3.0
"""How long after the death of a component its orphans are looked for."""
MAX_LOG_BYTES = 8 << 20
"""Size at which a component's log becomes `.log.1` and a new one is begun."""

_LOOK_S = 0.1
_LOG_CHECK_S = 5.0
_PROBE_S = 0.005


class Supervisor:
    """Keeps the two components of a local cluster running until it is told to stop.

    Args:
        settings: the cluster; its directories and configuration files exist.
        on_ready: called once, when the session manager answers.
        parent_fd: a pipe whose end of file means that the parent is gone; -1 for none.
    """

    def __init__(self, settings: Settings, on_ready: Callable[[], None] = lambda: None, parent_fd: int = -1) -> None:
        self.settings = settings
        self._on_ready: Callable[[], None] | None = on_ready
        self._parent_fd = parent_fd
        self._environment = layout.environment(settings)
        self._session_manager, self._executor_manager = self._components = [
            Component(
                name,
                settings.data_dir,
                layout.command(settings, name),
                paths.log_file(settings.data_dir, name),
            )
            for name in (layout.SESSION_MANAGER, layout.EXECUTOR_MANAGER)
        ]
        self._stopping = False
        self._reaper = False
        self._orphans_until_s = 0.0
        self._log_check_s = time.monotonic() + _LOG_CHECK_S
        self._poll = select.poll()

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self) -> str:
        """Run the cluster until SIGTERM, until the parent is gone, or until a component turns out not to work.

        Everything is stopped when it returns.

        Returns:
            Empty, or why it gave up.
        """
        wake, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._poll.register(wake, select.POLLIN)
        if self._parent_fd >= 0:
            self._poll.register(self._parent_fd, select.POLLIN)
        self._start_due(time.monotonic())
        from flame.sandbox.host import adopt_orphans  # here: it takes 10 ms, and the components start first

        adopt_orphans()
        self._reaper = True
        try:
            while not self._stopping and not self._failure():
                self._turn(wake)
            return self._failure()
        finally:
            self.stop()

    def adopt(self) -> list[str]:
        """Take over the components that run already; return their names."""
        now_s = time.monotonic()
        running = {process.component: process.pid for process in processes.find(self.settings.data_dir)}
        for component in self._components:
            if component.name in running:
                component.adopt(running[component.name], now_s)
                log(f"{component.name} runs already (pid {component.pid})")
        return [component.name for component in self._components if component.pid]

    def _turn(self, wake: int) -> None:
        for fd, _ in self._wait(self._timeout_s(time.monotonic())):
            if fd == wake:
                with suppress(BlockingIOError):
                    os.read(wake, 4096)
            elif not self._read_parent():
                self._stopping = True
        now_s = time.monotonic()
        self._reap(now_s)
        if self._stopping or self._failure():
            return
        self._start_due(now_s)
        if now_s < self._orphans_until_s:
            self._kill_orphans()
        if self._on_ready is not None and self._answers():
            ready, self._on_ready = self._on_ready, None
            self._session_manager.settle()  # should the disk be full a moment later, it comes back when there is room
            ready()
        if now_s >= self._log_check_s:
            self._log_check_s = now_s + _LOG_CHECK_S
            for name in ("supervisor", *(component.name for component in self._components)):
                bound_log(paths.log_file(self.settings.data_dir, name), MAX_LOG_BYTES)

    def _timeout_s(self, now_s: float) -> float:
        """How long nothing has to be done."""
        due = [self._log_check_s, *(c.start_at_s for c in self._components if not c.pid)]
        if self._on_ready is not None:
            due.append(now_s + _PROBE_S)
        if now_s < self._orphans_until_s or any(c.adopted for c in self._components):
            due.append(now_s + _LOOK_S)
        return max(0.0, min(due) - now_s)

    def _start_due(self, now_s: float) -> None:
        for component in self._components:
            if not component.pid and now_s >= component.start_at_s:
                log(f"{component.name} {component.start(now_s, self._environment)}")

    def _reap(self, now_s: float) -> None:
        """Take note of every process below this one that has ended."""
        for pid, status in self._ended():
            self._orphans_until_s = now_s + ORPHANS_S
            for component in self._components:
                if component.pid == pid:
                    log(f"{component.name} (pid {pid}) {component.ended(status, now_s)}")
        for component in self._components:
            if component.gone():
                self._orphans_until_s = now_s + ORPHANS_S
                log(f"{component.name} (pid {component.pid}) {component.ended(0, now_s)}")

    def _ended(self) -> list[tuple[int, int]]:
        """Process id and wait status of the children that have ended; none of a process that has other children."""
        if not self._reaper:
            return []
        from flame.sandbox.host import reap

        return reap()

    def _children(self) -> list[int]:
        """The processes below this one that have no other parent; none of a process that has other children."""
        if not self._reaper:
            return []
        from flame.sandbox.host import children

        return children(os.getpid())

    def _failure(self) -> str:
        return next((f"{c.name} {c.failure}" for c in self._components if c.failure), "")

    def _read_parent(self) -> bool:
        try:
            return bool(os.read(self._parent_fd, 4096))
        except OSError:
            return False

    def _answers(self) -> bool:
        from flame.config.probe import answers  # here: the components start first

        return self._session_manager.pid != 0 and answers(self.settings.socket_path)

    def _on_term(self, *_: object) -> None:
        self._stopping = True

    def _wait(self, timeout_s: float) -> list[tuple[int, int]]:
        return self._poll.poll(timeout_s * 1000 + 1)

    # --- stopping ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End every process of the cluster: the executor manager, the session manager, and what they left.

        Works without `run` too, on components that were adopted.
        """
        # What an embedded cluster keeps is deleted with it, so nothing in it has to end gently but user code.
        grace_s = STOP_GRACE_S if not self.settings.embedded else 2.0
        self._end(self._executor_manager, signal.SIGTERM, grace_s)
        self._end(self._session_manager, signal.SIGKILL if self.settings.embedded else signal.SIGTERM, grace_s)
        deadline_s = time.monotonic() + KILL_GRACE_S
        while self._kill_rest() and time.monotonic() < deadline_s:
            time.sleep(0.01)
            self._reap(time.monotonic())
        with suppress(OSError):
            os.unlink(self.settings.socket_path)
        log("stopped")

    def _end(self, component: Component, signal_number: int, grace_s: float) -> None:
        component.send(signal_number)
        kill_at_s = time.monotonic() + grace_s
        give_up_s = kill_at_s + KILL_GRACE_S
        while component.pid and (now_s := time.monotonic()) < give_up_s:
            if now_s >= kill_at_s:
                component.send(signal.SIGKILL)
            time.sleep(0.005)
            self._reap(time.monotonic())

    def _kill_orphans(self) -> None:
        """Kill the children of this process that are none of the components."""
        components = {component.pid for component in self._components}
        for pid in self._children():
            if pid not in components:
                log(f"killed process {pid}, left behind by a component")
                kill(pid)

    def _kill_rest(self) -> bool:
        """Kill whatever still belongs to the cluster; return whether there was something."""
        rest = [p.pid for p in processes.find(self.settings.data_dir) if p.component != "supervisor"]
        rest += self._children()
        for pid in rest:
            kill(pid)
        return bool(rest)


def kill(pid: int) -> None:
    """SIGKILL a process, if it is still there and may be."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def bound_log(path: str, limit_bytes: int) -> None:
    """Keep a log that its writer has open below a size: the old content becomes `path.1`.

    The file is copied and cut, not renamed, because its writer appends through a descriptor of its own.
    """
    try:
        if os.stat(path).st_size <= limit_bytes:
            return
        with open(path, "rb") as old, open(f"{path}.1", "wb") as kept:
            while block := old.read(1 << 20):
                kept.write(block)
        os.truncate(path, 0)
    except OSError as error:
        log(f"log {path}: {error.strerror}")


def log(line: str) -> None:
    """Write a line to standard error, which is the supervisor's log."""
    now_s = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now_s))
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{stamp}.{int(now_s % 1 * 1000):03d} supervisor: {line}\n")
        sys.stderr.flush()
