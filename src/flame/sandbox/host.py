"""The host sandbox: no walls, but no leftovers. Processes die with their parent, and orphans are found and killed.

A process that is a subreaper (`adopt_orphans`) becomes the parent of every descendant whose own parent has ended,
however often it forked and whatever session it moved to. So nobody escapes, and `kill_children` can end them all.
Linux only.
"""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import stat
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 32 * 1024 * 1024  # the most that glibc takes for M_MMAP_THRESHOLD
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when the *thread* that forked it ends.

    The parent may be gone already: compare `os.getppid()` with the expected one afterwards.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (a subreaper)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed, up to 32 MiB, instead of giving it back to the kernel.

    By default each payload of a MiB is fresh memory, which the kernel clears page by page: taking one in costs twenty
    times as much.
    """
    if hasattr(_LIBC, "mallopt"):  # glibc
        for option in (_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD):
            _LIBC.mallopt(option, _KEPT_BYTES)


def give_back_freed_memory() -> None:
    """Give the kernel what the allocator keeps all the same, wherever it lies: after much was freed at once."""
    if hasattr(_LIBC, "malloc_trim"):  # glibc
        _LIBC.malloc_trim(0)


def raise_file_limit() -> int:
    """Let this process open as many files as it may (the hard limit); returns the limit that it had (the soft one)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def lower_file_limit(soft: int) -> None:
    """Give this process, and what it forks, a soft limit of open files again: `select()` fails above 1,024."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        from flame.model.errors import FailedPrecondition  # here: supervisors have no time to import it

        raise FailedPrecondition(f"executors need Linux, this is {sys.platform}")
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def children(pid: int) -> list[int]:
    """The processes that have `pid` as their parent, zombies among them.

    One that ends meanwhile can hide another: ask again after each death.
    """
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.extend(int(child) for child in (task / "children").read_text().split())
    except FileNotFoundError:
        if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
            return _scan(pid)
    except OSError:  # the process or one of its threads ended
        pass
    return found


def _scan(pid: int) -> list[int]:
    """The same on a kernel without /proc/.../children."""
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [int(entry.name) for entry in processes if _parent(entry) == pid]


def _parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def kill_children(keep: Collection[int]) -> bool:
    """Kill this process's children but those in `keep`; return whether there were any.

    Only a subreaper's own children are looked at: what they leave behind comes to it next, so call again until there
    is nothing to kill. The caller reaps.
    """
    orphans = [pid for pid in children(os.getpid()) if pid not in keep]
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(orphans)


def reap() -> list[tuple[int, int]]:
    """Take the statuses of all children that have ended, as (pid, wait status)."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it, also where somebody took away their own permissions.

    What cannot be removed stays, without an error.
    """
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        with contextlib.suppress(OSError):
            os.chmod(path, stat.S_IRWXU)
            for folder, names, _ in os.walk(path):
                for name in names:
                    if not os.path.islink(os.path.join(folder, name)):
                        os.chmod(os.path.join(folder, name), stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
