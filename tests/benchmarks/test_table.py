"""The table of the benchmarks."""

import json
from pathlib import Path

import pytest

from benchmarks.table import Figure, number, render, write

FIGURES = [
    Figure(name="tasks", value=1_234_567, unit="tasks/s", must=100_000, worth=1_000_000, larger_is_better=True),
    Figure(name="latency", value=0.5, unit="ms", must=1.0, worth=0.4),
    Figure(name="memory", value=500, unit="MB", must=300, worth=150, note="too much"),
    Figure(name="yardstick", value=7, unit="ms"),
]


def test_each_figure_says_what_it_reaches() -> None:
    assert [figure.verdict() for figure in FIGURES] == ["worth", "must", "MISSED", "reported"]


def test_the_table_has_a_line_per_figure() -> None:
    text = render(FIGURES, quick=False)
    lines = text.splitlines()
    assert len(lines) == 2 + len(FIGURES)
    assert "1,234,567 tasks/s" in lines[2]
    assert "MISSED" in lines[4]
    assert lines[4].endswith("too much")
    assert "QUICK" not in text


def test_a_quick_run_is_marked(tmp_path: Path) -> None:
    assert "QUICK" in render(FIGURES, quick=True)
    file = write(FIGURES, tmp_path, quick=True)
    assert "quick" in file.name
    assert json.loads(file.read_text())["quick"] is True


def test_a_run_is_written_with_machine_and_samples(tmp_path: Path) -> None:
    content = json.loads(write(FIGURES, tmp_path / "results", quick=False).read_text())
    assert [figure["name"] for figure in content["figures"]] == [figure.name for figure in FIGURES]
    assert content["figures"][2]["reaches"] == "MISSED"
    assert content["machine"]["cpus"] >= 1


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1_234_567.8, "1,234,568"), (0.123456, "0.123"), (12.345, "12.3"), (0.0, "0")]
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text
