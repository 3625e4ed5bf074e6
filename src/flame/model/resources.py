"""Resources of nodes and what an executor asks for: whole CPUs, bytes of memory, whole GPUs."""

import re
from typing import Annotated

import msgspec

from flame.model.errors import InvalidArgument
from flame.model.limits import GIB, KIB, MIB

_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_MEMORY = re.compile(r"([0-9]+)([kmgt]?)(?:i?b)?")
_COUNT = re.compile(r"([0-9]+)()")
MAX_AMOUNT = 1 << 62
"""Largest amount of CPUs or of bytes: sums of two still fit 64 bits."""
MAX_GPUS = (1 << 31) - 1

Amount = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
"""So that an amount fits 64 bits, signed or not, in every wire form; sums are made where numbers have no bound."""


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of resources.

    Args:
        cpu: whole CPUs.
        memory_bytes: bytes of memory.
        gpu: whole GPUs.

    Example:
        >>> Resources.parse("cpu=2,mem=1g")
        Resources(cpu=2, memory_bytes=1073741824, gpu=0)
    """

    cpu: Amount = 0
    memory_bytes: Amount = 0
    gpu: Annotated[int, msgspec.Meta(ge=0, le=MAX_GPUS)] = 0

    @classmethod
    def parse(cls, text: str) -> "Resources":
        """Read `cpu=1,mem=1g,gpu=0` in any order. Absent memory and GPUs are 0; an absent cpu is 1, as none is refused.

        Raises:
            InvalidArgument: an unknown name, a repeated one, or a value that is no number.
        """
        values: dict[str, int] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, equals, value = (p.strip().lower() for p in part.partition("="))
            name = {"mem": "memory_bytes", "memory": "memory_bytes"}.get(name, name)
            match = (_MEMORY if name == "memory_bytes" else _COUNT).fullmatch(value)
            if not equals or name not in ("cpu", "memory_bytes", "gpu") or name in values or match is None:
                raise InvalidArgument(
                    f"resources {text!r}: cannot read {part!r}",
                    hint="write them like cpu=1,mem=1g,gpu=0",
                )
            digits = match[1].lstrip("0") or "0"
            # The first 20 digits are more than is allowed, and Python does not read numbers of any length.
            values[name] = int(digits[:20]) * _UNITS[match[2]]
            if values[name] > (MAX_GPUS if name == "gpu" else MAX_AMOUNT):
                raise InvalidArgument(
                    f"resources {text!r}: a value is too large", hint="the largest is 2^62, and 2^31 - 1 for gpu"
                )
        return cls(**({"cpu": 1} | values))

    def fits(self, room: "Resources") -> bool:
        """Whether this amount fits into `room`."""
        return self.cpu <= room.cpu and self.memory_bytes <= room.memory_bytes and self.gpu <= room.gpu

    def plus(self, other: "Resources") -> "Resources":
        """The sum of both."""
        return Resources(
            cpu=self.cpu + other.cpu, memory_bytes=self.memory_bytes + other.memory_bytes, gpu=self.gpu + other.gpu
        )

    def minus(self, other: "Resources") -> "Resources":
        """The difference; parts may become negative."""
        return Resources(
            cpu=self.cpu - other.cpu, memory_bytes=self.memory_bytes - other.memory_bytes, gpu=self.gpu - other.gpu
        )

    def __str__(self) -> str:
        return f"cpu={self.cpu},mem={format_bytes(self.memory_bytes)},gpu={self.gpu}"


def format_bytes(count: int) -> str:
    """Bytes in the largest unit that shows them exactly, as `Resources.parse` reads them.

    Example:
        >>> format_bytes(1 << 30)
        '1g'
    """
    for unit in "tgmk":
        if count and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)


def round_bytes(count: int) -> str:
    """Bytes to be read by people: as `format_bytes` where that is short, else in GiB with a decimal.

    Example:
        >>> round_bytes(24_684_096 << 10)
        '23.5g'
    """
    exact = format_bytes(count)
    return exact if len(exact) <= 6 else f"{count / GIB:.1f}g"


DEFAULT_RESOURCES = Resources(cpu=1, memory_bytes=GIB, gpu=0)
"""What a session asks for per executor where neither it nor the cluster says otherwise."""
