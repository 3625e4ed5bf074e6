"""Whether the file of a Unix socket still leads to the process that listens on it: it can be removed or replaced."""

import os
import socket
import stat
import struct
from contextlib import suppress

_LISTENS = 0x10000
"""Flag of a socket in /proc/net/unix that connections are accepted on."""


def lost(path: str, pid: int) -> bool:
    """Whether a process listens on the Unix socket at `path`, and nobody gets there any more by its file.

    Never true of one that does not listen yet, or that is slow to accept.

    Args:
        path: as the process has bound it.
    """
    return _owner(path) not in (pid, None) and _listens(path, pid)


def replaceable(path: str) -> bool:
    """Whether a process that listens at `path` from now on can make its file: none is there, or a dead socket's."""
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode) and _owner(path) == 0
    except FileNotFoundError:
        return True


def _owner(path: str) -> int | None:
    """Who listens where the file of a socket leads: a process id, 0 for nobody, None where that is not known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return 0
        except OSError:  # as with many that wait to be accepted: somebody is there
            return None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])


def _listens(path: str, pid: int) -> bool:
    """Whether a process has a socket that it listens on and once bound to `path`."""
    with suppress(OSError), open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as sockets:
        found = [line.rstrip("\n").split(maxsplit=7) for line in sockets]
        names = {f"socket:[{one[6]}]" for one in found[1:] if one[7:] == [path] and int(one[3], 16) & _LISTENS}
        return bool(names) and any(_link(f"/proc/{pid}/fd/{fd}") in names for fd in os.listdir(f"/proc/{pid}/fd"))
    return False


def _link(path: str) -> str:
    with suppress(OSError):  # it may have been closed meanwhile
        return os.readlink(path)
    return ""
