"""What one checkout of Flame does on this machine, as a line of JSON: a program of its own that only uses the SDK.

Started by `benchmarks.against` with the sources of the checkout first on `PYTHONPATH`. The cluster is an embedded and
durable one; its processes are those that inherited a mark in their environment.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import flame
from benchmarks.measure import cpu_seconds, percentile
from benchmarks.yardsticks import small_inputs

MARK = "FLAME_PROBE"


def marked() -> Iterator[int]:
    """Processes that have this process's mark in their environment."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def main(tasks: int, single: int) -> None:
    """Run `tasks` at once, and `single` one after the other."""
    with flame.connect("embedded") as connection:
        folder = str(Path(__file__).parent)
        connection.register_application("probe", service="services:Reverse", working_directory=folder)
        with connection.create_session("probe", min_instances=2) as session:
            _run(session, 0, tasks // 10)
            pids = list(marked())
            cpu_s, began_s = cpu_seconds(pids), time.perf_counter()
            _run(session, tasks, tasks)
            took_s = time.perf_counter() - began_s
            cpu_s = cpu_seconds(pids) - cpu_s
            latencies_ms = [_invoke_ms(session, data) for data in small_inputs(2 * tasks, single)]
    figures = {
        "tasks/s": tasks / took_s,
        "CPU us/task": cpu_s * 1e6 / tasks,
        "one task p50 ms": percentile(latencies_ms, 50),
        "one task p99 ms": percentile(latencies_ms, 99),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def _run(session: flame.Session, first: int, count: int) -> None:
    outputs = session.map(small_inputs(first, count))
    for sent, output in zip(small_inputs(first, count), outputs, strict=True):
        if output != sent[::-1]:
            raise RuntimeError(f"the output of {sent!r} is {output!r}")


def _invoke_ms(session: flame.Session, data: bytes) -> float:
    began_s = time.perf_counter()
    output = session.invoke(data)
    took_ms = (time.perf_counter() - began_s) * 1000
    if output != data[::-1]:
        raise RuntimeError(f"the output of {data!r} is {output!r}")
    return took_ms


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
