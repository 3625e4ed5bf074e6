"""The supervisor of `flame up`: a process of its own that outlives the command."""

import json
import os
from contextlib import suppress

from flame.config import paths
from flame.supervisor.lock import Lock
from flame.supervisor.loop import Supervisor, log
from flame.supervisor.settings import Settings, prepare

_LOCK_TIMEOUT_S = 2.0


def run(settings: Settings) -> int:
    """Supervise a cluster until SIGTERM.

    Returns:
        Exit code: 0, or 1 if another supervisor has the data directory or a component does not work.
    """
    os.makedirs(f"{settings.data_dir}/run", mode=0o700, exist_ok=True)
    lock = Lock(settings.data_dir)
    if not lock.acquire(_LOCK_TIMEOUT_S):
        log(f"another supervisor has {settings.data_dir}")
        return 1
    prepare(settings)
    supervisor = Supervisor(settings, on_ready=lambda: write_runtime_files(settings, os.getpid()))
    supervisor.adopt()
    failure = supervisor.run()
    remove_runtime_files(settings.data_dir)
    lock.release()
    if failure:
        log(f"gave up: {failure}")
    return 1 if failure else 0


def write_runtime_files(settings: Settings, supervisor: int) -> None:
    """Write the data directory's runtime file and this user's pointer to it; `supervisor` is a process id."""
    content = {
        "version": 1,
        "data_dir": settings.data_dir,
        "endpoint": settings.endpoint,
        "grpc": f"http://{settings.grpc}" if settings.grpc else "",
        "supervisor": supervisor,
    }
    for path in (paths.cluster_file(settings.data_dir), paths.pointer_file()):
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            fd = os.open(f"{path}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
            os.replace(f"{path}.{os.getpid()}", path)
        except OSError as error:
            log(f"{path}: cannot be written: {error.strerror}")


def remove_runtime_files(data_dir: str) -> None:
    """Remove the runtime file, and this user's pointer if it points here."""
    for path in (paths.pointer_file(), paths.cluster_file(data_dir)):
        with suppress(OSError, ValueError):
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if isinstance(content, dict) and content.get("data_dir") == data_dir:
                os.unlink(path)
