"""The table: each figure with what it must reach, printed and written as JSON."""

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import msgspec

from flame.sim.run import commit_of


class Figure(msgspec.Struct, kw_only=True):
    """One row of the table.

    Args:
        name: what was measured.
        value: the measured value (median over the rounds, where there are several).
        unit: of `value`, `must` and `worth`.
        must: what it must reach, or None where it is only reported.
        worth: what is worth reaching, or None.
        larger_is_better: direction of the comparison.
        note: more numbers, e.g. the slowest second.
        samples: all values that `value` is the median of.
        series: what lies behind the samples, in time, by name: e.g. the rate in each second of a round.
    """

    name: str
    value: float
    unit: str
    must: float | None = None
    worth: float | None = None
    larger_is_better: bool = False
    note: str = ""
    samples: list[float] = []
    series: dict[str, list[float]] = {}

    def reaches(self, bound: float | None) -> bool:
        """Whether the value is as good as `bound`."""
        if bound is None:
            return False
        return self.value >= bound if self.larger_is_better else self.value <= bound

    def verdict(self) -> str:
        """`worth`, `must`, `MISSED`, or `reported`."""
        if self.must is None and self.worth is None:
            return "reported"
        if self.reaches(self.worth):
            return "worth"
        if self.must is None:
            return "reported"
        return "must" if self.reaches(self.must) else "MISSED"


def render(figures: list[Figure], *, quick: bool) -> str:
    """The table as text."""
    header = ("figure", "measured", "must", "worth", "reaches", "note")
    rows = [
        (
            figure.name,
            f"{number(figure.value)} {figure.unit}".strip(),
            number(figure.must),
            number(figure.worth),
            figure.verdict(),
            figure.note,
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    title = "  ".join(cell.ljust(width) for cell, width in zip(header, widths, strict=True)).rstrip()
    warning = ["QUICK: short runs, one round; only for a first look", ""] if quick else []
    return "\n".join([*warning, title, "-" * len(title), *lines])


def number(value: float | None) -> str:
    """A number with three or more significant digits, thousands apart; a dash for none."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def machine() -> dict[str, Any]:
    """Where and when a run was made."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit_of(Path(__file__).parent),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def write(figures: list[Figure], folder: Path, *, quick: bool) -> Path:
    """Write the run as JSON and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    file = folder / f"{stamp}{'-quick' if quick else ''}.json"
    content = {
        "quick": quick,
        "machine": machine(),
        "figures": [msgspec.to_builtins(figure) | {"reaches": figure.verdict()} for figure in figures],
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
    return file
