"""What executors print: from a pipe into a file of bounded size, in a directory of bounded size."""

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import Final

from flame.model.limits import MAX_LOG_FILES, MAX_LOG_FILES_BYTES

_READ_BYTES: Final = 64 * 1024
_PREDECESSOR: Final = ".1"


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
        os.replace(self.path, f"{self.path}{_PREDECESSOR}")
        self._open()


class LogDirectory:
    """The logs of one node's executors; of those that have ended the newest are kept, and the empty ones go first.

    An empty log is not removed at once: its path is shown as long as its executor is.

    Args:
        path: of the directory, which belongs to this node alone.
        max_bytes: per executor.
        max_files: of ended executors together.
        max_files_bytes: of the same.
    """

    def __init__(
        self, path: Path, max_bytes: int, *, max_files: int = MAX_LOG_FILES, max_files_bytes: int = MAX_LOG_FILES_BYTES
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._max_files_bytes = max_files_bytes
        self._live: Counter[str] = Counter()
        self._ended: dict[str, list[int]] = {}  # the sizes of its files by name, oldest first
        self._empty: dict[str, list[int]] = {}  # the same of those with nothing in them
        self._files = self._files_bytes = 0
        with contextlib.suppress(OSError):
            found = [(entry.stat().st_mtime_ns, entry.name) for entry in os.scandir(path)]
            for name in dict.fromkeys(name.removesuffix(_PREDECESSOR) for _, name in sorted(found)):
                self._keep(name)

    def open(self, executor: str) -> LogFile:
        """The log of an executor that starts.

        Raises:
            OSError: it cannot be made.
        """
        name = f"executor-{executor}.log"
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = LogFile(self._path / name, self._max_bytes)
        self._forget(name)
        self._live[name] += 1
        return log

    def ended(self, log: LogFile) -> None:
        """The executor of this log, which is closed, has ended."""
        name = log.path.name
        self._live[name] -= 1
        if self._live[name]:
            return
        del self._live[name]
        self._keep(name)
        while self._files > self._max_files or self._files_bytes > self._max_files_bytes:
            too_many = self._files > self._max_files
            oldest = next(iter(self._empty if self._empty and too_many else self._ended))
            self._forget(oldest)
            for path in self._both(oldest):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _keep(self, name: str) -> None:
        sizes = []
        for path in self._both(name):
            with contextlib.suppress(OSError):
                sizes.append(path.stat().st_size)
        if sizes:
            (self._ended if any(sizes) else self._empty)[name] = sizes
            self._files += len(sizes)
            self._files_bytes += sum(sizes)

    def _forget(self, name: str) -> None:
        sizes = self._ended.pop(name, None) or self._empty.pop(name, [])
        self._files -= len(sizes)
        self._files_bytes -= sum(sizes)

    def _both(self, name: str) -> tuple[Path, Path]:
        return self._path / name, self._path / f"{name}{_PREDECESSOR}"


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
