"""One supervisor per data directory: a lock that the kernel gives back when its holder dies."""

import errno
import fcntl
import os
import time

from flame.config.processes import is_component


class Lock:
    """The supervisor's lock of a data directory.

    Example:
        >>> lock = Lock("/srv/flame")  # doctest: +SKIP
        >>> lock.acquire(timeout_s=1)  # doctest: +SKIP
        True
    """

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir
        self._path = f"{data_dir}/run/supervisor.lock"
        self._fd = -1

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock; return whether that was possible within `timeout_s`. Closed in exec'd children.

        A supervisor that has it and is alive is not waited for, only one that the kernel is just clearing away.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline_s = time.monotonic() + timeout_s
        while not _try(fd, fcntl.LOCK_EX):
            if self.holder() or time.monotonic() >= deadline_s:
                os.close(fd)
                return False
            time.sleep(0.01)
        os.truncate(fd, 0)
        os.pwrite(fd, b"%d" % os.getpid(), 0)
        self._fd = fd
        return True

    def holder(self) -> int:
        """The process id of the supervisor that has it and is alive, or 0."""
        try:
            with open(self._path, "rb") as file:
                pid = int(file.read(20))
        except (OSError, ValueError):  # nobody has ever had it, or somebody has just taken it
            return 0
        return pid if is_component(pid, "supervisor", self._data_dir) else 0

    def held(self) -> bool:
        """Whether some process holds it now."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _try(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def release(self) -> None:
        """Give it back; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _try(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True
