"""Warnings about peers that misbehave: so many a second that a flood of peers is no flood of the log."""

import asyncio
import logging
from typing import Final

from flame.model.limits import MAX_WARNINGS_PER_S

log: Final = logging.getLogger("flame.session_manager")
_PERIOD_S: Final = 1.0


class Warnings:
    """Logs warnings; those beyond `MAX_WARNINGS_PER_S` are counted, and the last of them stands for all."""

    def __init__(self) -> None:
        self._logged = 0
        self._held_back = 0
        self._last = ""

    def warn(self, text: str) -> None:
        """Log a warning, now or in the count of the second that it is in."""
        if self._logged == 0:
            asyncio.get_running_loop().call_later(_PERIOD_S, self._end_period)
        self._logged += 1
        if self._logged <= MAX_WARNINGS_PER_S:
            log.warning("%s", text)
        else:
            self._held_back += 1
            self._last = text

    def _end_period(self) -> None:
        held_back, self._logged, self._held_back = self._held_back, 0, 0
        if held_back:
            log.warning("%d more warnings of this kind; the last: %s", held_back, self._last)
