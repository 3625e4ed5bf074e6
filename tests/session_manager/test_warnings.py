"""Warnings: all of a few, and a count of many."""

import asyncio

import pytest

from flame.model.limits import MAX_WARNINGS_PER_S
from flame.session_manager import warnings
from flame.session_manager.warnings import Warnings


def test_a_flood_is_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "_PERIOD_S", 0.01)

    async def main() -> None:
        peers = Warnings()
        for number in range(MAX_WARNINGS_PER_S + 7):
            peers.warn(f"peer {number}: bad")
        assert len(caplog.messages) == MAX_WARNINGS_PER_S
        async with asyncio.timeout(10):
            while len(caplog.messages) == MAX_WARNINGS_PER_S:
                await asyncio.sleep(0.005)
        last = f"peer {MAX_WARNINGS_PER_S + 6}: bad"
        assert caplog.messages[-1] == f"7 more warnings of this kind; the last: {last}"
        peers.warn("peer x: bad")
        assert caplog.messages[-1] == "peer x: bad"

    asyncio.run(main())
