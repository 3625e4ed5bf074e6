"""What the core does, as text: each file of `scenarios/` is a story with the trace of every step under it.

`FLAME_UPDATE_SCENARIOS=1 pytest tests/core/test_scenarios.py` writes the traces anew; read the difference.
"""

import os
from pathlib import Path

import pytest

from tests.core.scenario import Scenario

FOLDER = Path(__file__).parent / "scenarios"
UPDATE = bool(os.environ.get("FLAME_UPDATE_SCENARIOS"))
"""Read when this file is imported: while a test runs, no FLAME_ variable is set."""


def replay(text: str) -> str:
    """A scenario with the traces it has now. A first line `settings NAME=NUMBER...` changes the core's settings."""
    lines: list[str] = []
    scenario: Scenario | None = None
    for line in text.splitlines():
        if line.startswith(" "):
            continue
        lines.append(line)
        if not line or line.startswith("#"):
            continue
        if line.startswith("settings "):
            pairs = [word.split("=") for word in line.split()[1:]]
            scenario = Scenario(**{name: int(value) for name, value in pairs})
            continue
        scenario = scenario or Scenario()
        lines.extend(f"    {trace}" for trace in scenario.run(line))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_core_does_what_the_scenario_says(path: Path) -> None:
    expected = path.read_text(encoding="utf-8")
    actual = replay(expected)
    if UPDATE:
        path.write_text(actual, encoding="utf-8")
        return
    assert actual == expected, f"{path.name} tells another story; if it is right, update it (see this file's docstring)"


def test_there_are_scenarios() -> None:
    assert len(list(FOLDER.glob("*.txt"))) >= 12
