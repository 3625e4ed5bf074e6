"""`flmping`: run tasks of the built-in application `flmping` and tell how it went."""

import logging
import os
import signal
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Literal

import click

from flame.cli import errors
from flame.cli.click_support import run_click, version_option
from flame.cli.ping_report import Progress, completed, created, summary
from flame.model.errors import FlameError, InvalidArgument
from flame.model.limits import MAX_TASK_BYTES_CEILING
from flame.model.resources import Resources

if TYPE_CHECKING:
    from flame.sdk.session import Session

APPLICATION = "flmping"
WINDOW_TASKS = 100_000
MOST_TASKS = 1_000_000_000
MOST_MS = 24 * 3_600_000
MOST_PRIORITY = (1 << 32) - 1


def read_size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """Read a size like `64m`, in bytes."""
    try:
        return Resources.parse(f"mem={value}").memory_bytes
    except InvalidArgument:
        raise click.BadParameter(f"{value!r} is not a size; write it like 512, 64k, 100m or 1g") from None


def read_payload_size(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """Read the size of an input or output, which no configuration lets be larger than the ceiling."""
    size = read_size(context, parameter, value)
    if size > MAX_TASK_BYTES_CEILING:
        raise click.BadParameter(f"{value!r} is more than a task may have ({MAX_TASK_BYTES_CEILING} bytes)")
    return size


def read_resources(context: click.Context, parameter: click.Parameter, value: str | None) -> Resources | None:
    """Read resources like `cpu=1,mem=1g`."""
    try:
        return None if value is None else Resources.parse(value)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from None


class Tally:
    """Counts of tasks that ended, and the first failure."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.first_failure: FlameError | None = None
        self.latencies_s: array[float] = array("d")

    @property
    def ended(self) -> int:
        """Tasks that ended, either way."""
        return self.succeeded + self.failed

    def add(self, outcome: object) -> None:
        """Count one output, or the error in its place."""
        if isinstance(outcome, FlameError):
            self.failed += 1
            self.first_failure = self.first_failure or outcome
        else:
            self.succeeded += 1


@click.command()
@click.option(
    "-t", "--task-num", metavar="N", type=click.IntRange(1, MOST_TASKS), default=10, show_default=True, help="Tasks."
)
@click.option(
    "-d", "--duration", metavar="MS", type=click.IntRange(0, MOST_MS), default=0, help="Duration of each task."
)
@click.option("-m", "--memory", metavar="SIZE", callback=read_size, default="0", help="Memory of each task, e.g. 64m.")
@click.option("-c", "--common-data", metavar="TEXT", help="Common data of the session.")
@click.option(
    "-i", "--input-bytes", metavar="N", callback=read_payload_size, default="0", help="Smallest input of a task."
)
@click.option(
    "-o", "--output-bytes", metavar="N", callback=read_payload_size, default="0", help="Smallest output of a task."
)
@click.option("-p", "--perf", is_flag=True, help="Print a summary with the latency of the tasks.")
@click.option(
    "-P", "--priority", metavar="N", type=click.IntRange(0, MOST_PRIORITY), default=0, help="Priority of the session."
)
@click.option("-r", "--resreq", metavar="cpu=N,mem=SIZE,gpu=N", callback=read_resources, help="What an executor needs.")
@click.option("--endpoint", metavar="URL", help="The cluster.  [default: FLAME_ENDPOINT, then the one that runs]")
@click.option("--embedded", is_flag=True, help="Run an embedded cluster, which ends with this command.")
@click.option("--mode", type=click.Choice(["durable", "memory"]), help="Of an embedded cluster.  [default: durable]")
@version_option("flmping")
def flmping(
    *,
    task_num: int,
    duration: int,
    memory: int,
    common_data: str | None,
    input_bytes: int,
    output_bytes: int,
    perf: bool,
    priority: int,
    resreq: Resources | None,
    endpoint: str | None,
    embedded: bool,
    mode: Literal["durable", "memory"] | None,
) -> int:
    """Run tasks of the application `flmping` on a cluster, by default on an embedded one if none runs.

    Exit codes: 0 all tasks succeeded, 1 some failed or it was not possible, 2 wrong usage, 130 interrupted, 143 and 129
    the same by SIGTERM and SIGHUP.
    """
    if embedded and endpoint not in (None, "embedded"):
        raise click.UsageError("--embedded and --endpoint exclude each other")
    errors.end_like_ctrl_c(signal.SIGTERM, signal.SIGHUP)  # or the session stays open, with all its tasks
    import flame

    payload = task_input(duration, memory, input_bytes, output_bytes)
    progress = Progress(task_num)
    _warn_above(progress)
    tally = Tally()
    with flame.connect("embedded" if embedded else endpoint, mode=mode) as connection:
        started_s = time.monotonic()
        with connection.create_session(
            APPLICATION,
            common_data=None if common_data is None else os.fsencode(common_data),
            priority=priority,
            resources=resreq,
        ) as session:
            click.echo(created(session.id, time.monotonic() - started_s, task_num))
            started_s = time.monotonic()
            try:
                for _ in (_timed if perf else _mapped)(session, payload, task_num, tally):
                    progress.update(tally.ended)
            finally:
                elapsed_s = time.monotonic() - started_s
                progress.close()
            click.echo(completed(task_num, elapsed_s))
    if perf:
        rows = summary(tally.succeeded, tally.failed, elapsed_s, tally.latencies_s)
        click.echo("\n".join(f"  {name:<12}{value:>16}" for name, value in rows))
    if tally.failed:
        errors.say_error(f"{tally.failed:,} of {task_num:,} tasks failed; the first: {_one_line(tally.first_failure)}")
        return errors.FAILURE
    return errors.OK


def task_input(duration_ms: int, memory_bytes: int, input_bytes: int, output_bytes: int) -> bytes:
    """The input of each task: JSON, filled up with spaces; empty where nothing is asked for.

    Example:
        >>> task_input(5, 0, 0, 0)
        b'{"duration_ms": 5}'
    """
    values = {"duration_ms": duration_ms, "memory_bytes": memory_bytes, "output_bytes": output_bytes}
    fields = [f'"{name}": {value}' for name, value in values.items() if value]
    if not fields and not input_bytes:
        return b""
    return ("{" + ", ".join(fields) + "}").encode().ljust(input_bytes)


def _mapped(session: "Session", payload: bytes, count: int, tally: Tally) -> Iterator[None]:
    """Run the tasks as one stream."""
    for outcome in session.map(repeat(payload, count), ordered=False, window=WINDOW_TASKS, return_exceptions=True):
        tally.add(outcome)
        yield


def _timed(session: "Session", payload: bytes, count: int, tally: Tally) -> Iterator[None]:
    """Run the tasks with a future each, and note how long each took."""
    clock = time.perf_counter

    def note(_: object, submitted_s: float) -> None:
        tally.latencies_s.append(clock() - submitted_s)

    futures = []
    for _ in range(count):
        submitted_s = clock()
        future = session.run(payload)
        future.add_done_callback(partial(note, submitted_s=submitted_s))
        futures.append(future)
    yield
    for future in futures:
        tally.add(future.exception())
        yield


class _AboveProgress(logging.Handler):
    """Shows warnings of the SDK, such as a session that fits no node, above the progress bar."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        self._progress.clear()
        print(f"warning: {record.getMessage()}", file=sys.stderr, flush=True)


def _warn_above(progress: Progress) -> None:
    logger = logging.getLogger("flame")
    logger.addHandler(_AboveProgress(progress))
    logger.propagate = False


def _one_line(error: FlameError | None) -> str:
    return str(error).partition("\n")[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    sys.exit(run_click(flmping, "flmping", arguments))


if __name__ == "__main__":
    main()
