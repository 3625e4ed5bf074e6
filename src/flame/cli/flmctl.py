"""`flmctl`: look at the sessions, applications, executors and nodes of a cluster, and end sessions."""

import sys
from collections.abc import Callable, Sequence

import click

import flame
from flame.cli import errors, inventory, tables
from flame.cli.click_support import run_click, version_option

_endpoint = click.option(
    "--endpoint", metavar="URL", help="The cluster.  [default: FLAME_ENDPOINT, ~/.flame/flame.yaml, then what runs]"
)
_session = click.option("-s", "--session", metavar="ID", required=True, help="The session.")


@click.group()
@version_option("flmctl")
def flmctl() -> None:
    """Look at a Flame cluster.

    Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.
    """


@flmctl.command("list")
@_endpoint
@click.option("-a", "--application", "what", flag_value="applications", help="List applications.")
@click.option("-e", "--executor", "what", flag_value="executors", help="List executors, with the path of their log.")
@click.option("-n", "--node", "what", flag_value="nodes", help="List nodes.")
def list_command(endpoint: str | None, what: str | None) -> int:
    """List sessions, or something else."""
    listing: Callable[[flame.Connection], inventory.Table] = {
        "applications": inventory.applications,
        "executors": inventory.executors,
        "nodes": inventory.nodes,
    }.get(what or "", inventory.sessions)
    with inventory.connect(endpoint) as cluster:
        columns, rows = listing(cluster)
    click.echo(tables.render(columns, rows, tables.terminal_width()))
    return errors.OK


@flmctl.command()
@_endpoint
@_session
def view(endpoint: str | None, session: str) -> int:
    """Show one session, with warnings."""
    with inventory.connect(endpoint) as cluster:
        click.echo(tables.pairs(inventory.session_view(cluster, session)))
    return errors.OK


@flmctl.command()
@_endpoint
@_session
def close(endpoint: str | None, session: str) -> int:
    """Close a session: what runs finishes, what is queued is cancelled."""
    with inventory.connect(endpoint) as cluster:
        cluster.close_session(session)
    click.echo(f"session {session} is closed")
    return errors.OK


@flmctl.command()
@_endpoint
@_session
def delete(endpoint: str | None, session: str) -> int:
    """Delete a closed session with all its tasks and results."""
    with inventory.connect(endpoint) as cluster:
        cluster.delete_session(session)
    click.echo(f"session {session} is deleted")
    return errors.OK


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    sys.exit(run_click(flmctl, "flmctl", arguments))


if __name__ == "__main__":
    main()
