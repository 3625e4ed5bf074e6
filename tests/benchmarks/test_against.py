"""Two checkouts against each other: what is judged, and a whole short run."""

import subprocess
import sys

import pytest

from benchmarks.against import Figures, table, worse
from tests.support import ROOT

OLD = [{"tasks/s": 100.0, "CPU us/task": 10.0, "ms": 1.0} for _ in range(3)]


def run(rate: float, cpu_us: float) -> list[Figures]:
    return [{"tasks/s": rate, "CPU us/task": cpu_us, "ms": 9.0} for _ in range(3)]


def test_worse_by_more_than_a_tenth_is_told() -> None:
    assert worse(OLD, run(91, 10.9)) == []
    assert worse(OLD, run(200, 1)) == []
    assert worse(OLD, run(89, 10)) == ["tasks/s"]
    assert worse(OLD, run(100, 11.1)) == ["CPU us/task"]


def test_the_table_has_medians_ranges_and_ratios() -> None:
    text = table("v1", OLD, run(50, 10))
    assert "| tasks/s | 100.00 (100.00-100.00) | 50.00 (50.00-50.00) | 0.50 |" in text


def test_a_checkout_against_itself() -> None:
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("these sources are no checkout that git reads for this user")
    command = [
        sys.executable,
        "-m",
        "benchmarks.against",
        "HEAD",
        "--rounds",
        "1",
        "--tasks",
        "20000",
        "--single",
        "20",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode in (0, 1), ended.stderr  # one short run on a busy machine says nothing about speed
    assert "| one task p50 ms |" in ended.stdout


def test_an_unknown_revision_is_told() -> None:
    command = [sys.executable, "-m", "benchmarks.against", "nosuch"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "git has no sources of 'nosuch'" in ended.stderr
