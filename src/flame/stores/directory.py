"""The directory of a store on disk: one process at a time, private files, and a reserve of space for results."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flame.model.errors import ConfigurationError, FailedPrecondition, Internal

LOCK_NAME: Final = "lock"
RESERVE_NAME: Final = "reserve"


class StoreDirectory:
    """A directory that one process at a time has, made (mode 0700) where it is missing.

    The operating system drops the lock when the process ends, however it ends; the file of the lock names the process.

    The reserve is a file of `reserve_bytes` that is really allocated. While it is there, a full disk is one that still
    has room for results: `release_reserve` gives the room back, `make_reserve` takes it again.

    Args:
        path: the directory.
        reserve_bytes: size of the reserve; 0 for none.
    """

    def __init__(self, path: Path, reserve_bytes: int) -> None:
        self.path = path
        self._reserve_bytes = reserve_bytes
        self._reserve_path = path / RESERVE_NAME
        self._reserved = False
        self._lock: int | None = None
        self._watched: dict[str, tuple[int, int]] = {}

    def acquire(self) -> None:
        """Make the directory where it is missing, and lock it.

        Raises:
            ConfigurationError: it cannot be made or used.
            FailedPrecondition: another process has it.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_directory(self.path.parent)
            lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"data directory {self.path} cannot be used: {error.strerror}",
                hint="name a directory that this user can write to",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
            os.close(lock)
            raise FailedPrecondition(
                f"data directory {self.path} is in use by {f'process {owner}' if owner else 'another process'}",
                hint="stop that process, or name another directory",
            ) from None
        except OSError as error:
            os.close(lock)
            raise ConfigurationError(
                f"data directory {self.path} cannot be locked: {error.strerror}",
                hint="use a local file system",
            ) from error
        self._lock = lock
        # Only a name for others to read: on a full disk the lock holds without it.
        with contextlib.suppress(OSError):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._reserved = self._allocated_bytes() >= self._reserve_bytes
        self.make_reserve()

    def release(self) -> None:
        """Unlock it; idempotent."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def private_file(self, name: str) -> None:
        """Make an empty file of mode 0600 where it is missing.

        Raises:
            ConfigurationError: it cannot be read and written.
        """
        path = self.path / name
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigurationError(
                f"{path} cannot be used: {error.strerror}",
                hint="it has to be a file that this user can read and write",
            ) from error

    def watch(self, *names: str) -> None:
        """Remember which files these are, for `check_files`; names of no file are left out."""
        found = {name: self._identity(name) for name in names}
        self._watched = {name: identity for name, identity in found.items() if identity is not None}

    def check_files(self, save: Callable[[str], bool]) -> None:
        """Raise where a watched file does not stand under its name any more: whoever has it open goes on writing to
        it, and no new start finds that.

        Args:
            save: called with the name of the first such file, if nothing stands in its place; returns whether it
                could put what is in the file where a new start finds it.

        Raises:
            Internal: there is such a file, or the directory cannot be looked at.
        """
        for name, identity in self._watched.items():
            now = self._identity(name)
            if now == identity:
                continue
            what = f"{self.path / name} was {'replaced' if now else 'removed or renamed'} while it was in use"
            if not now and save(name):
                raise Internal(f"{what}; all that it held is saved", hint="leave the files of a data directory alone")
            raise Internal(
                f"{what}: a new start does not find what it held",
                hint="put the file back in its place before that, or restore it from a copy",
            )

    def _identity(self, name: str) -> tuple[int, int] | None:
        """Device and inode of a file. It is not opened: to close it again would drop this process's locks on it."""
        try:
            status = os.stat(self.path / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Internal(f"{self.path / name} cannot be looked at: {error.strerror}") from error
        return status.st_dev, status.st_ino

    def make_reserve(self) -> None:
        """Allocate the reserve where it is missing and the disk has room for twice as much; cheap when it is there."""
        if self._reserved or self.disk_free_bytes() < 2 * self._reserve_bytes:
            return
        try:
            file = os.open(self._reserve_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, self._reserve_bytes)
            finally:
                os.close(file)
        except OSError as error:
            self.release_reserve()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self._reserve_bytes = 0  # this file system has no such thing
        else:
            self._reserved = True

    def release_reserve(self) -> bool:
        """Give the reserve's room back to the disk; return whether there was any."""
        was_reserved = self._reserved and self._reserve_bytes > 0
        self._reserved = False
        with contextlib.suppress(OSError):
            self._reserve_path.unlink(missing_ok=True)
        return was_reserved

    def free_bytes(self) -> int:
        """Free space on the disk for this user, without what the reserve holds or still has to take."""
        missing_bytes = 0 if self._reserved else self._reserve_bytes
        return max(0, self.disk_free_bytes() - missing_bytes)

    def disk_free_bytes(self) -> int:
        """Free space on the disk for this user.

        Raises:
            Internal: the directory is not there any more, or the disk does not answer.
        """
        try:
            disk = os.statvfs(self.path)
        except OSError as error:
            raise Internal(
                f"data directory {self.path} cannot be used any more: {error.strerror}",
                hint="it has to stay in its place while it is in use: if it was renamed, move it back",
            ) from error
        return disk.f_bavail * disk.f_frsize

    def _allocated_bytes(self) -> int:
        try:
            return self._reserve_path.stat().st_blocks * 512
        except OSError:
            return 0


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
