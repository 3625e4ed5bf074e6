"""The inputs that are kept: `corpus/TARGET/`, each named by its hash."""

from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).with_name("corpus")


def corpus(name: str) -> list[bytes]:
    """The inputs of a target, in an order that is always the same."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
