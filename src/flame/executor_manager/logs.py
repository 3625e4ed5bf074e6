"""What an executor prints: from a pipe into a file of bounded size."""

import os
from pathlib import Path
from typing import Final

_READ_BYTES: Final = 64 * 1024


class LogFile:
    """A log of bounded size: at half the bound it becomes `<name>.1` and a new file begins.

    Args:
        path: of the file; an existing one is continued, for an executor has one log over all its bindings.
        max_bytes: of both files together.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._half_bytes = max(1, max_bytes // 2)
        self._open()

    def write(self, data: bytes) -> None:
        """Append; what a full disk does not take is lost."""
        rest = memoryview(data)
        while rest:
            if self._size >= self._half_bytes:
                self._rotate()
            part = rest[: self._half_bytes - self._size]
            try:
                os.write(self._file, part)
            except OSError:
                return
            self._size += len(part)
            rest = rest[len(part) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        os.close(self._file)
        os.replace(self.path, f"{self.path}.1")
        self._open()


class LogPipe:
    """The pipe between an executor and its log.

    Attributes:
        read_end, write_end: descriptors; the write end goes to the executor and is closed here (`handed_over`).
    """

    def __init__(self, log: LogFile) -> None:
        self.log = log
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self.write_end, True)

    def handed_over(self) -> None:
        """The executor has the write end."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def pump(self) -> bool:
        """Move what is there into the log; return whether there may be more later."""
        try:
            data = os.read(self.read_end, _READ_BYTES)
        except BlockingIOError:
            return True
        self.log.write(data)
        return bool(data)

    def close(self) -> None:
        """Move what is left, and close everything."""
        self.handed_over()
        for _ in range(16):  # the pipe's 64 KiB, with room; whoever still writes is not waited for
            try:
                data = os.read(self.read_end, _READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                break
            self.log.write(data)
        os.close(self.read_end)
        self.log.close()
