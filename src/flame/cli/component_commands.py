"""The commands that run one component of a cluster in the foreground.

Their options are read here, without click: they are on the way from `flmping --embedded` to its first result, and
importing click takes 30 ms in each process.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from flame.cli.entry import hear_ctrl_c

Options = Mapping[str, str]

USAGE = 2
_PATHS = ("--config", "--data-dir")
_NUMBERS = ("--executors", "--parent", "--parent-fd")
_MOST_DIGITS = 9
_MODES = ("durable", "memory")


class UsageError(Exception):
    """The command line is wrong."""


def main(arguments: Sequence[str]) -> int:
    """Run the component that the first argument names.

    Returns:
        The exit code.
    """
    name, *rest = arguments
    command, allowed = COMMANDS[name]
    try:
        options = read_options(rest, allowed)
    except UsageError as error:
        sys.stderr.write(f"error: flame {name}: {error} (see flame {name} --help)\n")
        return USAGE
    if name in ("supervisor", "embedded"):  # the way to errors imports what they do without
        hear_ctrl_c()
        return command(options)
    from flame.cli.errors import run

    return run(lambda: command(options))


def read_options(arguments: Sequence[str], allowed: Mapping[str, bool]) -> dict[str, str]:
    """Read `--name value` and `--name=value`.

    Args:
        arguments: of the command.
        allowed: the options there are, and whether they are required.

    Raises:
        UsageError: an unknown option, one without a value or with one that it cannot have, or a missing option.

    Example:
        >>> read_options(["--config", "x.yaml"], {"config": True})
        {'config': 'x.yaml'}
    """
    options = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name[2:] not in allowed:
            raise UsageError(f"{argument!r} is not an option of it")
        if not equals:
            if not rest:
                raise UsageError(f"{name} needs a value")
            value = rest.pop(0)
        _check_value(name, value)
        options[name[2:]] = value
    for name, required in allowed.items():
        if required and name not in options:
            raise UsageError(f"--{name} is missing")
    return options


def _check_value(name: str, value: str) -> None:
    if name in _PATHS and not value:
        raise UsageError(f"{name} is empty")
    if name in _NUMBERS and not (value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS):
        raise UsageError(f"{name} takes a number, not {value!r}")
    if name == "--mode" and value not in _MODES:
        raise UsageError(f"--mode is {' or '.join(_MODES)}, not {value!r}")


def _session_manager(options: Options) -> int:
    from pathlib import Path

    from flame.config.components import SessionManagerConfig, check_session_manager
    from flame.config.files import load

    _die_with_parent(options, "SIGKILL")
    path = Path(options["config"])
    config = check_session_manager(load(path, SessionManagerConfig, _overrides(options)), str(path))
    from flame.session_manager.main import run

    return run(config)


def _executor_manager(options: Options) -> int:
    from pathlib import Path

    from flame.config.components import ExecutorManagerConfig, check_executor_manager
    from flame.config.files import load

    _die_with_parent(options, "SIGTERM")  # it has executors to end
    path = Path(options["config"])
    config = check_executor_manager(load(path, ExecutorManagerConfig, _overrides(options)), str(path))
    from flame.executor_manager.main import run

    return run(config)


def _supervisor(options: Options) -> int:
    from flame.supervisor.detached import run
    from flame.supervisor.settings import Settings

    return run(
        Settings(
            data_dir=options["data-dir"],
            executors=int(options.get("executors", "0")),
            grpc=options.get("grpc", ""),
            mode=options.get("mode", "durable"),
        )
    )


def _embedded(options: Options) -> int:
    from flame.supervisor.embedded import run

    return run(
        parent_fd=int(options["parent-fd"]),
        mode=options.get("mode", "durable"),
        executors=int(options.get("executors", "0")),
    )


def _overrides(options: Options) -> dict[str, str]:
    """What the command line says over the file."""
    return {"data_dir": os.path.abspath(options["data-dir"])} if "data-dir" in options else {}


def _die_with_parent(options: Options, signal_name: str) -> None:
    """With `--parent PID`: get a signal when that process, which started this one, is gone."""
    if "parent" not in options:
        return
    from signal import Signals

    from flame.sandbox.host import die_with_parent

    die_with_parent(Signals[signal_name])
    if os.getppid() != int(options["parent"]):  # it went before the line above
        raise SystemExit(1)


COMMANDS: dict[str, tuple[Callable[[Options], int], dict[str, bool]]] = {
    "session-manager": (_session_manager, {"config": True, "data-dir": False, "parent": False}),
    "executor-manager": (_executor_manager, {"config": True, "data-dir": False, "parent": False}),
    "supervisor": (_supervisor, {"data-dir": True, "executors": False, "grpc": False, "mode": False}),
    "embedded": (_embedded, {"parent-fd": True, "mode": False, "executors": False}),
}
"""Name, what runs it, and its options with whether they are required."""
