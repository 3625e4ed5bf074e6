"""The mutants as data: what stands in the files beside this one, and how one is applied to a copy of the sources."""

import shutil
import tomllib
from pathlib import Path

import msgspec

FILES = ("core.toml", "protocol.toml")
SOURCES = Path(__file__).parents[3] / "src"


class Mutant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One mutation, in one place.

    Args:
        name: of the mutant.
        what: one sentence that says what it breaks.
        file: the module, from `src/flame` on.
        old: text that stands in it exactly once.
        new: what stands there instead.
        history: whether the history checker has to catch it alone, with all invariants off.
        missing: what the simulation lacks to catch it; such a mutant is tried only where it is named.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    history: bool = False
    missing: str = ""

    def mutate(self, text: str) -> str:
        """The text of the module with the mutation.

        Raises:
            ValueError: the old text does not stand there exactly once.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(
                f"mutant {self.name}: its old text stands {found} times in {self.file}; bring it up to date"
            )
        return text.replace(self.old, self.new)

    def apply(self, sources: Path) -> None:
        """Mutate a copy of the sources in place."""
        module = sources / "flame" / self.file
        module.write_text(self.mutate(module.read_text()))


def read_mutants() -> list[Mutant]:
    """All mutants, in the order of the files."""
    mutants = []
    for name in FILES:
        for entry in tomllib.loads((Path(__file__).parent / name).read_text())["mutant"]:
            # A text ends where its last line ends, without the line feed before the closing quotes.
            texts = {key: entry[key].removesuffix("\n") for key in ("old", "new")}
            mutants.append(msgspec.convert({**entry, **texts}, Mutant))
    return mutants


def copy_sources(to: Path) -> Path:
    """Copy the sources into a directory; return where they are."""
    return Path(shutil.copytree(SOURCES, to / "src", ignore=shutil.ignore_patterns("__pycache__")))
