"""The embedded cluster: a supervisor that lives and dies with its parent, in a temporary directory.

The parent learns the endpoint from one line of JSON on standard output. It holds the write end of a pipe; its end of
file means that the parent is gone, however it went.
"""

import os
import sys
from contextlib import suppress

from flame.supervisor.lock import Lock
from flame.supervisor.loop import Supervisor
from flame.supervisor.settings import Settings, prepare

PREFIX = "flame-"
MAX_BASE_BYTES = 60
"""Longest temporary directory in which Unix sockets still fit."""
STALE_AFTER_S = 60.0
"""Age at which a directory that nobody holds is removed: its supervisor was killed."""


def run(*, parent_fd: int, mode: str, executors: int) -> int:
    """Run an embedded cluster until the parent is gone or SIGTERM.

    Args:
        parent_fd: read end of the pipe that the parent holds.
        mode: `durable` or `memory`.
        executors: most executors at a time; 0 for one per CPU.

    Returns:
        Exit code: 0, or 1 if a component does not work; standard output then had a line with the key `error`.
    """
    with suppress(OSError):  # it may be the leader of a session already
        os.setsid()
    base = temporary_base()
    data_dir = make_directory(base)
    settings = Settings(data_dir=data_dir, executors=executors, mode=mode, embedded=True)
    lock = Lock(data_dir)
    failure = ""
    try:
        prepare(settings)
        log_fd = os.open(f"{data_dir}/log/supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log_fd, 2)
        lock.acquire(0)
        failure = Supervisor(settings, lambda: _ready(settings, base), parent_fd).run()
        if failure:
            _say({"error": f"the embedded cluster cannot start: {failure}", "log": _last_lines(data_dir)})
    finally:
        lock.release()
        _remove(data_dir)
    return 1 if failure else 0


def temporary_base() -> str:
    """The directory for temporary files: `TMPDIR`, unless it is too long for Unix sockets, else `/tmp`."""
    base = os.environ.get("TMPDIR", "")
    if os.path.isabs(base) and len(os.fsencode(base)) <= MAX_BASE_BYTES and os.access(base, os.W_OK | os.X_OK):
        return base.rstrip("/") or "/tmp"
    return "/tmp"


def make_directory(base: str) -> str:
    """A new directory that nobody else can enter."""
    while True:
        path = f"{base}/{PREFIX}{os.urandom(4).hex()}"
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
            return path


def remove_stale(base: str) -> None:
    """Remove this user's directories whose supervisor was killed: nobody holds their lock."""
    import time

    for name in os.listdir(base):
        path = f"{base}/{name}"
        with suppress(OSError):
            status = os.lstat(path)
            if (
                len(name) == len(PREFIX) + 8
                and name.startswith(PREFIX)
                and status.st_uid == os.geteuid()
                and time.time() - status.st_mtime > STALE_AFTER_S
                and os.path.exists(f"{path}/run/supervisor.lock")
                and not Lock(path).held()
            ):
                _remove(path)


def _remove(path: str) -> None:
    from flame.sandbox.host import remove_tree  # here: the components start first

    remove_tree(path)


def _ready(settings: Settings, base: str) -> None:
    _say({"endpoint": settings.endpoint, "data_dir": settings.data_dir})
    with open(os.devnull, "wb") as null:
        os.dup2(null.fileno(), 1)  # a reader of the parent's output must not wait for this process
    remove_stale(base)


def _say(content: dict[str, str]) -> None:
    import json

    with suppress(OSError):
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()


def _last_lines(data_dir: str) -> str:
    """The last lines of the components' logs."""
    lines: list[str] = []
    for component in ("session-manager", "executor-manager"):
        with suppress(OSError), open(f"{data_dir}/log/{component}.log", encoding="utf-8", errors="replace") as file:
            lines += [line.rstrip() for line in file.readlines()[-3:]]
    return "\n".join(lines)
