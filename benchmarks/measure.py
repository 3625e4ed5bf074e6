"""Measuring: CPU and memory of processes from /proc, rates over time, percentiles."""

import itertools
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time that processes have used so far; one that is gone counts as nothing."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) * TICK_S
    return total


def peak_memory_mb(pid: int) -> float:
    """Largest resident size of a process so far (VmHWM), in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/{pid}/status has no VmHWM: the process has ended")


def processes_of(folder: Path) -> dict[int, str]:
    """Processes whose command line names `folder`: their ids and command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if str(folder) in command:
                found[int(entry.name)] = command
    return found


class Rate:
    """How many tasks were done in each second since the start."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.total = 0
        self._marks: list[tuple[float, int]] = [(0.0, 0)]

    def add(self, count: int) -> None:
        """Some tasks were done just now. Called often, but not once per task."""
        self.total += count
        self._marks.append((time.perf_counter() - self.started, self.total))

    @property
    def seconds(self) -> float:
        """From the start to the last task."""
        return self._marks[-1][0]

    @property
    def per_second(self) -> float:
        """Tasks per second over the whole run."""
        return self.total / self.seconds

    def each_second(self) -> list[float]:
        """Tasks done in each full second, between marks in a straight line."""
        done = [self._at(float(second)) for second in range(int(self.seconds) + 1)]
        return [after - before for before, after in itertools.pairwise(done)]

    def slowest_second(self) -> float:
        """Tasks done in the slowest full second (the whole rate, where the run had none)."""
        return min(self.each_second(), default=self.per_second)

    def drift(self) -> float:
        """Change of the rate from the start to the end of the run, by least squares, as a share of its mean.

        The first second is left out: executors are topped up from small to large in it.
        """
        rates = self.each_second()[1:]
        if len(rates) < 3:
            return 0.0
        slope, _ = statistics.linear_regression(range(len(rates)), rates)
        return slope * (len(rates) - 1) / statistics.fmean(rates)

    def _at(self, moment: float) -> float:
        low, high = 0, len(self._marks) - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._marks[middle][0] <= moment else (low, middle)
        (before, done), (after, more) = self._marks[low], self._marks[high]
        return done + (more - done) * min(1.0, (moment - before) / (after - before))


def percentile(samples: Sequence[float], percent: float) -> float:
    """The sample below which `percent` of all lie (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(percent * 10) // 1000) - 1))]
