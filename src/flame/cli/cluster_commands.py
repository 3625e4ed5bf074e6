"""The commands of `flame`: up, down, status, and help for those that run one component."""

import os
import shlex
from typing import Any, NoReturn

import click

from flame.cli import errors, inventory, tables
from flame.cli.click_support import version_option
from flame.config import capacity
from flame.supervisor import cluster
from flame.supervisor.settings import EXECUTOR_MANAGER, SESSION_MANAGER, Settings

PORT = 8080

_data_dir = click.option(
    "--data-dir", metavar="DIR", help="Directory of the cluster's data.  [default: ~/.local/share/flame]"
)


@click.group()
@version_option("flame")
def flame() -> None:
    """Run a Flame cluster on this machine.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 3 not running (status), 130 interrupted.
    """


@flame.command()
@_data_dir
@click.option("--executors", metavar="N", type=click.IntRange(1, 4096), help="Most executors.  [default: one per CPU]")
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port of the gRPC frontend, on 127.0.0.1; 0 takes a free one.",
)
@click.option(
    "--mode",
    type=click.Choice(["durable", "memory"]),
    default="durable",
    show_default=True,
    help="Keep everything on disk, or nothing once it stops.",
)
def up(data_dir: str | None, executors: int | None, port: int, mode: str) -> int:
    """Start the cluster, or repair what is missing of it. Returns when it answers."""
    directory = cluster.normal_data_dir(data_dir)
    settings = Settings(data_dir=directory, executors=executors or 0, grpc=f"127.0.0.1:{port}", mode=mode)
    with inventory.Probe() as probe:
        running = cluster.up(settings, probe.has_node, lambda line: click.echo(f"flame: {line}"))
    click.echo(f"flame is up, with {_counted(probe.nodes, 'node')}")
    rows: list[tuple[str, object]] = [("  endpoint", running.endpoint), ("  gRPC", running.grpc)]
    rows += [("  executors", _room(*cluster.most_executors(directory))), ("  data", directory)]
    click.echo(tables.pairs(rows))
    return errors.OK


@flame.command()
@_data_dir
def down(data_dir: str | None) -> int:
    """Stop the cluster. Returns when no process of it is left."""
    directory = cluster.normal_data_dir(data_dir)
    count = cluster.down(directory)
    click.echo(
        f"flame is down ({_counted(count, 'process', 'processes')} stopped)" if count else "flame was not running"
    )
    return errors.OK


@flame.command()
@_data_dir
def status(data_dir: str | None) -> int:
    """Show what runs. Exit code 0 if all of it does, else 3."""
    directory = cluster.normal_data_dir(data_dir)
    found = cluster.status(directory)
    rows: list[tuple[str, object]] = []
    for name, pid in found.pids.items():
        rows.append((name, f"running (pid {pid})" if pid else "not running"))
    if found.cluster is None:
        rows.append(("endpoint", "none: the runtime file is missing" if any(found.pids.values()) else "none"))
    else:
        rows.append(("endpoint", found.cluster.endpoint))
        rows += [("gRPC", found.cluster.grpc)] if found.cluster.grpc else []
    rows.append(("data", found.data_dir))
    if found.answers:
        rows += inventory.counts(Settings(found.data_dir).endpoint)
    click.echo(tables.pairs(rows))
    if found.running:
        return errors.OK
    state = "is not running" if not any(found.pids.values()) else "is not complete"
    if not os.path.isdir(directory):
        state += f": there is no directory {directory}"
    option = "" if data_dir is None else f" --data-dir {shlex.quote(directory)}"
    click.echo(f"flame {state}; start it with: flame up{option}", err=True)
    return errors.NOT_RUNNING


def _room(executors: int, registered_cpus: int) -> str:
    """How many executors there may be, and what that means where it is more than there are CPUs."""
    if not registered_cpus:
        return f"at most {executors}"
    cpus = _counted(capacity.cpus(), "CPU")
    return f"at most {executors}, on {cpus}: the node registers cpu={registered_cpus}, and executors share CPUs"


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _component(name: str, what: str) -> None:
    """Declare a command that `flame.cli.component_commands` runs, so that it has a help page."""

    @flame.command(name, help=what)
    @click.option("--config", metavar="FILE", required=True, help="Its YAML configuration.")
    @click.option("--data-dir", metavar="DIR", help="Overrides data_dir of the configuration.")
    def shown(**_: Any) -> NoReturn:
        raise click.UsageError("write the command first: flame " + name)

    del shown


_component(SESSION_MANAGER, "Run a session manager in the foreground, until SIGTERM.")
_component(EXECUTOR_MANAGER, "Run the executor manager of a node in the foreground, until SIGTERM.")
