"""One process that the supervisor keeps alive."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress

from flame.config.processes import is_component

FIRST_DELAY_S = 0.1
MAX_DELAY_S = 10.0
RESET_AFTER_DELAYS = 10
"""A process that lived this many times as long as it was waited for restarts as if it had never died."""
SETTLED_AFTER_S = 5.0
"""A process that ends by itself before it lived this long once, or has worked, is not restarted: it cannot work."""


class Component:
    """A component of a cluster, running or not.

    Attributes:
        name: as on its command line.
        pid: its process, or 0.
        start_at_s: when to start it again, if it is not running.
        failure: how it ended by itself, or could not be started, before it was settled; or empty.
    """

    def __init__(self, name: str, data_dir: str, command: list[str], log_path: str) -> None:
        self.name = name
        self.pid = 0
        self.start_at_s = 0.0
        self.failure = ""
        self._data_dir = data_dir
        self._command = command
        self._log_path = log_path
        self._adopted = False
        self._settled = False
        self._started_s = 0.0
        self._delay_s = 0.0

    def start(self, now_s: float, environment: Mapping[str, str]) -> str:
        """Start its process, with standard output and error appended to its log; return the outcome, in words."""
        appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._adopted = False
        self._started_s = now_s
        try:
            self.pid = os.posix_spawn(
                self._command[0],
                self._command,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, self._log_path, appending, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM],
            )
        except OSError as error:  # the directory of its log was renamed, say, or the disk is full
            how = f"cannot be started with its log {self._log_path}: {error.strerror}"
            self._start_later(now_s, how)
            return how
        return f"started (pid {self.pid})"

    def adopt(self, pid: int, now_s: float) -> None:
        """Take over a process that a supervisor before this one started."""
        self.pid = pid
        self._adopted = self._settled = True
        self._started_s = now_s

    def settle(self) -> None:
        """It has shown that it works: if it ends by itself from now on, it is restarted."""
        self._settled = True

    @property
    def adopted(self) -> bool:
        """Whether its process is no child of this one, so that its end has to be looked for."""
        return self._adopted and self.pid != 0

    def gone(self) -> bool:
        """Whether an adopted process has ended."""
        return self.adopted and not is_component(self.pid, self.name, self._data_dir)

    def ended(self, status: int, now_s: float) -> str:
        """Its process has ended with this wait status (0 for an adopted one); return how, in words."""
        by_itself = not os.WIFSIGNALED(status)
        if not by_itself:
            how = f"killed by signal {os.WTERMSIG(status)}"
        else:
            how = "ended" if self._adopted else f"ended with exit code {os.waitstatus_to_exitcode(status)}"
        self._start_later(now_s, how if by_itself else "")
        return how

    def _start_later(self, now_s: float, failure: str) -> None:
        """Start it again after a pause, unless it fails before it has ever worked."""
        alive_s = now_s - self._started_s
        self._settled = self._settled or alive_s >= SETTLED_AFTER_S
        lived = alive_s >= RESET_AFTER_DELAYS * self._delay_s
        self._delay_s = FIRST_DELAY_S if lived else min(self._delay_s * 2, MAX_DELAY_S)
        if not self._settled:
            self.failure = failure
        self.pid = 0
        self.start_at_s = now_s + self._delay_s

    def send(self, signal_number: int) -> None:
        """Send a signal to its process, if it runs."""
        if self.pid and not self.gone():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)
                os.kill(self.pid, signal.SIGCONT)  # one that is stopped heeds it only then
