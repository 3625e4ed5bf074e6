"""What a local cluster is made of: its data directory's layout, configuration files and command lines.

Imported on the way to an embedded cluster's first process, so it takes nothing but the standard library's cheapest.
"""

import os
import sys
from typing import NamedTuple

from flame.config import capacity, paths
from flame.config.processes import MARKER

SESSION_MANAGER = "session-manager"
EXECUTOR_MANAGER = "executor-manager"

MIB = 1 << 20


class Settings(NamedTuple):
    """A local cluster as it was asked for.

    Args:
        data_dir: absolute path of its data directory.
        executors: most executors at a time; 0 for one per CPU.
        grpc: `host:port` of the gRPC frontend, or empty for none.
        mode: `durable` or `memory`.
        embedded: it ends with its parent.
    """

    data_dir: str
    executors: int = 0
    grpc: str = ""
    mode: str = "durable"
    embedded: bool = False

    @property
    def max_executors(self) -> int:
        """Most executors at a time, as a number."""
        return self.executors or capacity.cpus()

    @property
    def socket_path(self) -> str:
        """Where the session manager listens."""
        return paths.socket_path(self.data_dir)

    @property
    def endpoint(self) -> str:
        """The session manager's frame endpoint."""
        return f"unix://{self.socket_path}"


def prepare(settings: Settings) -> None:
    """Make the data directory and write the configuration files of its components."""
    for name in ("", "run", "conf", "log"):
        os.makedirs(os.path.join(settings.data_dir, name), mode=0o700, exist_ok=True)
    for component, values in configuration(settings).items():
        text = "".join(f"{key}: {_quote(value)}\n" for key, value in values.items())
        if settings.embedded:  # JSON, which is YAML too: read without importing a YAML reader
            text = "{" + ", ".join(f'"{key}": {_quote(value)}' for key, value in values.items()) + "}\n"
        else:
            text = "# Written anew by each `flame up`.\n" + text
        path = paths.configuration_file(settings.data_dir, component)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)


def configuration(settings: Settings) -> dict[str, dict[str, str | int]]:
    """The configuration of each component, as `flame.config.components` describes it.

    Executors ask for whole CPUs. So a node that is to take more executors than it has CPUs registers as many CPUs as
    executors were asked for, and each executor gets a part of one.
    """
    executors = settings.max_executors
    memory_mib = min(1024, capacity.memory_bytes() // executors // MIB)
    session_manager: dict[str, str | int] = {
        "data_dir": settings.data_dir,
        "mode": settings.mode,
        "frames": settings.endpoint,
        "grpc": settings.grpc,
        "default_resources": f"cpu=1,mem={memory_mib}m,gpu=0",
    }
    executor_manager: dict[str, str | int] = {
        "data_dir": settings.data_dir,
        "endpoint": settings.endpoint,
        "executors": executors,
    }
    if executors > capacity.cpus():
        executor_manager["cpu"] = executors
    return {SESSION_MANAGER: session_manager, EXECUTOR_MANAGER: executor_manager}


def command(settings: Settings, component: str) -> list[str]:
    """The command line of a component; it names the component and the data directory."""
    config = paths.configuration_file(settings.data_dir, component)
    arguments = [*flame_command(), component, "--config", config, "--data-dir", settings.data_dir]
    return [*arguments, "--parent", str(os.getpid())] if settings.embedded else arguments


def flame_command() -> list[str]:
    """How `flame` is started from here: by the same Python, whatever the directory."""
    return [sys.executable, "-P", "-m", "flame.cli.flame"]


def environment(settings: Settings) -> dict[str, str]:
    """The environment of the components: this one's, with a mark, and with an import path that does not depend on
    the working directory."""
    variables = {**os.environ, MARKER: settings.data_dir}
    if path := variables.get("PYTHONPATH"):
        variables["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    return variables


def _quote(value: str | int) -> str:
    """A scalar as JSON, which is YAML too."""
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
