"""What `flame up`, `flame down` and `flame status` do to the cluster of a data directory."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from flame.config import paths, processes, runtime
from flame.config.components import ExecutorManagerConfig, SessionManagerConfig
from flame.config.files import load
from flame.config.probe import answers
from flame.model.endpoint import MAX_UNIX_PATH_BYTES
from flame.model.errors import ConfigurationError, FailedPrecondition, FlameError, InvalidArgument, Unavailable
from flame.supervisor import detached, loop, socket_file
from flame.supervisor.lock import Lock
from flame.supervisor.settings import (
    EXECUTOR_MANAGER,
    SESSION_MANAGER,
    Settings,
    environment,
    flame_command,
)

UP_TIMEOUT_S = 30.0
DOWN_TIMEOUT_S = 45.0

SUPERVISOR = "supervisor"
_LOOK_S = 0.02
_FULL_BYTES = 1 << 20
"""Free space below which a disk counts as full where a cluster does not start."""
_STOPPED = "it was stopped meanwhile, as `flame down` does"

Say = Callable[[str], None]
"""Takes a line for the user."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What runs of a cluster.

    Args:
        pids: process id of each component, 0 for one that does not run.
        executors: number of executor processes.
        cluster: the runtime file, if it is there.
        answers: whether the session manager accepts connections.
    """

    data_dir: str
    pids: dict[str, int]
    executors: int
    cluster: runtime.Cluster | None
    answers: bool

    @property
    def running(self) -> bool:
        """Whether nothing is missing."""
        return self.answers and all(self.pids.values()) and self.cluster is not None


def up(settings: Settings, ready: Callable[[str], bool], say: Say, timeout_s: float = UP_TIMEOUT_S) -> runtime.Cluster:
    """Start the cluster of a data directory, or repair it; return once it answers.

    Args:
        settings: the cluster that is wanted, with any port for gRPC where it is 0; one that runs keeps its own.
        ready: asks the cluster at this endpoint whether it can run something; called until it says yes.
        say: gets a line for everything that was repaired.

    Raises:
        FailedPrecondition: this is not Linux, or something else is where its socket was.
        ConfigurationError: the data directory cannot be used.
        Unavailable: it did not answer in time, a component does not work, or it was stopped meanwhile. Nothing that
            was started here is left running.
    """
    if sys.platform != "linux":
        raise FailedPrecondition(f"a cluster runs on Linux only for now, not on {sys.platform}")
    data_dir = settings.data_dir
    make_data_dir(data_dir)
    before = status(data_dir)
    found = {name: pid for name, pid in before.pids.items() if pid}
    if found and (not before.pids[SUPERVISOR] or before.pids[SESSION_MANAGER]):  # else it may be writing them
        running = _settings_of(data_dir, settings, say)
        _check_socket(running.socket_path, before.pids[SESSION_MANAGER])
        settings = settings if before.pids[SUPERVISOR] else running
    log_sizes = {name: _size(paths.log_file(data_dir, name)) for name in before.pids}
    started = 0
    try:
        if not before.pids[SUPERVISOR]:
            with _interrupts_later():
                started = _start_supervisor(settings)
            if found:
                say(f"the supervisor was gone: started a new one (pid {started})")
        cluster = _wait_ready(settings, ready, say, started, timeout_s, log_sizes)
    except BaseException:
        # What ran before, or was started by somebody else, goes on; its supervisor goes on trying.
        if not found and Lock(data_dir).holder() in (0, started):
            with suppress(ProcessLookupError):
                if started:  # `down` finds processes by their command line, which this one may not have yet
                    os.kill(started, signal.SIGTERM)
            down(data_dir)
        raise
    if found and (before.cluster is not None or before.answers):  # else somebody was just starting it
        _say_repairs(before, status(data_dir), say)
    return cluster


def down(data_dir: str, timeout_s: float = DOWN_TIMEOUT_S) -> int:
    """Stop everything of a data directory, with or without its supervisor; return once no process is left.

    Returns:
        How many processes there were.

    Raises:
        FailedPrecondition: some process would not end.
    """
    found = processes.find(data_dir)
    deadline_s = time.monotonic() + timeout_s
    left = found
    while left and time.monotonic() < deadline_s:
        supervisors = [process.pid for process in left if process.component == SUPERVISOR]
        for pid in supervisors:  # again and again: a `flame up` at the same time may start another one
            _end_supervisor(data_dir, pid, deadline_s)
        if not supervisors:  # it was killed before, or it did not do its work
            rest = loop.Supervisor(Settings(data_dir))
            rest.adopt()
            rest.stop()
        left = processes.find(data_dir)
    if not left:
        detached.remove_runtime_files(data_dir)
    else:
        shown = ", ".join(f"{process.pid} {process.component}" for process in left)
        raise FailedPrecondition(f"{data_dir}: these processes do not end: {shown}", hint="end them yourself")
    return len(found)


def _end_supervisor(data_dir: str, pid: int, deadline_s: float) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # one that is stopped heeds the other only then
    except ProcessLookupError:
        return
    except PermissionError:
        raise FailedPrecondition(
            f"{data_dir}: its supervisor (pid {pid}) belongs to another user", hint="stop it as that user"
        ) from None
    while processes.is_component(pid, SUPERVISOR, data_dir):
        if time.monotonic() > deadline_s:
            loop.kill(pid)
        time.sleep(_LOOK_S)


def status(data_dir: str) -> Status:
    """Look at what runs of a data directory."""
    pids = dict.fromkeys((SUPERVISOR, SESSION_MANAGER, EXECUTOR_MANAGER), 0)
    executors = 0
    for process in processes.find(data_dir):
        if process.component in pids:
            pids[process.component] = process.pid
        executors += process.component == "executor"
    cluster = runtime.read(paths.cluster_file(data_dir))
    socket_path = paths.socket_path(data_dir)
    return Status(data_dir=data_dir, pids=pids, executors=executors, cluster=cluster, answers=answers(socket_path))


def most_executors(data_dir: str) -> tuple[int, int]:
    """How many executors the cluster's node takes at most, and how many CPUs it has registered in their favour.

    Returns:
        Both as `flame up` has configured them; 0 CPUs for those that the machine has.

    Raises:
        ConfigurationError: the executor manager's configuration file cannot be read.
    """
    config = load(Path(paths.configuration_file(data_dir, EXECUTOR_MANAGER)), ExecutorManagerConfig)
    return config.executors, config.cpu


def normal_data_dir(path: str | None) -> str:
    """The absolute path of a data directory, without links, so that every command names it alike.

    Args:
        path: as given, or None for the default.

    Raises:
        InvalidArgument: empty, no directory, too long for the Unix sockets in it, or with characters that no command
            line should have.
        ConfigurationError: another user's.
    """
    if path == "":
        raise InvalidArgument("the data directory's name is empty", hint="name one, or leave --data-dir out")
    if path and not path.isprintable():
        raise InvalidArgument(f"data directory {path!r}: it has unprintable characters", hint="choose another name")
    text = os.path.realpath(os.path.expanduser(path) if path else paths.default_data_dir())
    nbytes, limit = len(os.fsencode(paths.socket_path(text))), MAX_UNIX_PATH_BYTES
    if nbytes > limit:
        raise InvalidArgument(
            f"data directory {text}: its path is {nbytes - limit} bytes too long for the Unix sockets in it",
            hint="name a shorter one with --data-dir",
        )
    if os.path.exists(text) and not os.path.isdir(text):
        raise InvalidArgument(f"data directory {text}: it is no directory", hint="name another one with --data-dir")
    if os.path.exists(text) and not os.access(text, os.X_OK):
        raise ConfigurationError(
            f"data directory {text}: no permission to enter it: it is another user's",
            hint="become that user, or name another one with --data-dir",
        )
    return text


def make_data_dir(data_dir: str) -> None:
    """Make a data directory if it is not there.

    Raises:
        ConfigurationError: it cannot be made or written.
    """
    try:
        for name in ("", "/run", "/log"):  # one by one: the mode is for the last directory of a path only
            os.makedirs(f"{data_dir}{name}", mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"data directory {data_dir}: {error.strerror}", hint="name another one with --data-dir"
        ) from None
    if not os.access(f"{data_dir}/run", os.W_OK | os.X_OK):
        raise ConfigurationError(f"data directory {data_dir}: no permission to write", hint="name another one")


def _settings_of(data_dir: str, wanted: Settings, say: Say) -> Settings:
    """The settings a running cluster was started with, read from its configuration files."""
    try:
        session_manager = load(Path(paths.configuration_file(data_dir, SESSION_MANAGER)), SessionManagerConfig)
        executor_manager = load(Path(paths.configuration_file(data_dir, EXECUTOR_MANAGER)), ExecutorManagerConfig)
    except FlameError as error:
        if status(data_dir).pids[SUPERVISOR]:  # it writes them at its start only, and components do not start without
            raise FailedPrecondition(
                f"{error.message}: the configuration of the running cluster is lost",
                hint="if the data directory was renamed, move it back; else `flame down` and `flame up`",
            ) from None
        say(f"the settings of the running cluster are lost, taking new ones: {error}")
        return wanted
    settings = Settings(
        data_dir=data_dir,
        executors=executor_manager.executors,
        grpc=session_manager.grpc,
        mode=session_manager.mode,
    )
    grpc = settings.grpc if _any_port(wanted.grpc) else wanted.grpc
    if settings != wanted._replace(executors=wanted.max_executors, grpc=grpc):
        say("it runs already and keeps its settings; `flame down` first to change them")
    return settings


def _check_socket(path: str, pid: int) -> None:
    """See that a session manager (0 for none) can listen again where the file of its socket was removed.

    Raises:
        FailedPrecondition: something else is in the file's place.
    """
    if pid and socket_file.lost(path, pid) and not socket_file.replaceable(path):
        raise FailedPrecondition(
            f"{path}: this is not the socket of the session manager (pid {pid}) any more",
            hint="remove what stands there, and run `flame up` again",
        )


def _any_port(address: str) -> bool:
    return address.endswith(":0")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C has its effect at the end of this context: when it is known what was started, and has to be ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_supervisor(settings: Settings) -> int:
    grpc = f"127.0.0.1:{free_port()}" if _any_port(settings.grpc) else settings.grpc
    command = [*flame_command(), SUPERVISOR, "--data-dir", settings.data_dir, "--mode", settings.mode]
    command += ["--executors", str(settings.executors), "--grpc", grpc]
    appending = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        command[0],
        command,
        environment(settings),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, paths.log_file(settings.data_dir, SUPERVISOR), appending, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
    )


def _wait_ready(
    settings: Settings,
    ready: Callable[[str], bool],
    say: Say,
    started: int,
    timeout_s: float,
    log_sizes: dict[str, int],
) -> runtime.Cluster:
    """Wait until the cluster can run something and its runtime file says so.

    Args:
        started: the supervisor that was started here, or 0.
    """
    data_dir = settings.data_dir
    lock = Lock(data_dir)
    known, stopped = 0, True
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if started and (ended := os.waitpid(started, os.WNOHANG))[0]:
            started, stopped = 0, os.waitstatus_to_exitcode(ended[1]) in (0, -signal.SIGTERM)
        supervisor = lock.holder()
        if not started and not supervisor and not status(data_dir).pids[SUPERVISOR]:
            raise _did_not_start(data_dir, _STOPPED if stopped else "", log_sizes)
        if supervisor and answers(settings.socket_path) and ready(settings.endpoint):
            if supervisor != known:  # somebody else may have started it, and wanted something else
                settings, known = _settings_of(data_dir, settings, say), supervisor
            detached.write_runtime_files(settings, supervisor)
            cluster = runtime.read(paths.cluster_file(data_dir))
            if cluster is not None and lock.holder() == supervisor:
                return cluster
        time.sleep(_LOOK_S)
    raise _did_not_start(data_dir, f"no answer within {timeout_s:g} s", log_sizes)


def _did_not_start(data_dir: str, reason: str, log_sizes: dict[str, int]) -> Unavailable:
    """The error for a cluster that did not start, with what its logs say since."""
    lines = {name: _news(paths.log_file(data_dir, name), size) for name, size in log_sizes.items()}
    gave_up = next((line.partition("gave up: ")[2] for line in lines[SUPERVISOR] if "gave up: " in line), "")
    reason = reason or gave_up or next(iter(lines[SUPERVISOR][-1:]), "its supervisor ended")
    said = ""
    for name in (SESSION_MANAGER, EXECUTOR_MANAGER):
        errors = [line for line in lines[name] if "error" in line.lower()] or lines[name][-1:]
        if errors and (not said or name in gave_up):
            said = f"; {name}: {errors[-1].removeprefix('error: ')}"
    disk = os.statvfs(data_dir)
    if disk.f_bavail * disk.f_frsize < _FULL_BYTES:  # the logs may lack that for the same reason
        said += f"; the disk of {data_dir} is full: make room on it"
    return Unavailable(f"the cluster did not start: {reason}{said}", hint=f"logs are in {data_dir}/log")


def _say_repairs(before: Status, after: Status, say: Say) -> None:
    for name in (SESSION_MANAGER, EXECUTOR_MANAGER):
        if not before.pids[name]:
            say(f"the {name} was gone: started again (pid {after.pids[name]})")
    if before.cluster is None:
        say("the runtime file was gone: written again")


def _size(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_size
    return 0


def _news(path: str, offset: int) -> list[str]:
    """Lines of a log after `offset`."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            file.seek(offset)
            return [line.strip() for line in file.read(1 << 20).splitlines() if line.strip()]
    except OSError:
        return []
