"""Fixtures of the command lines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Home


@pytest.fixture
def home(short_tmp: Path) -> Iterator[Home]:
    """A user whose cluster does not run yet."""
    made = Home(short_tmp)
    yield made
    made.end()
