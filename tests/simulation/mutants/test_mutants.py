import ast
from pathlib import Path

import pytest

from tests.simulation.mutants.__main__ import Row, try_mutant
from tests.simulation.mutants.catalogue import SOURCES, Mutant, copy_sources, read_mutants
from tests.simulation.mutants.trial import Verdict

MUTANTS = read_mutants()
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
OURS = ("core/control/", "core/scheduling/", "session_manager/pump.py", "protocol/")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_of_a_module_that_is_there(mutant: Mutant) -> None:
    text = (SOURCES / "flame" / mutant.file).read_text()

    mutated = mutant.mutate(text)

    assert mutated != text
    assert ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(text))
    assert mutant.file.startswith(OURS)
    assert mutant.what.endswith(".")


def test_there_are_enough_of_them() -> None:
    assert len(BY_NAME) == len(MUTANTS)
    tried = [mutant for mutant in MUTANTS if not mutant.missing]
    assert len(tried) >= 25
    assert sum(mutant.history for mutant in tried) >= 10
    assert {mutant.file.split("/")[0] for mutant in MUTANTS} == {"core", "protocol", "session_manager"}


@pytest.mark.parametrize("text", ["a = 1\n", "x = 1\nx = 1\n"])
def test_a_text_that_is_gone_or_ambiguous_is_told(text: str) -> None:
    mutant = Mutant(name="m", what="It breaks.", file="core/x.py", old="x = 1", new="x = 2")

    with pytest.raises(ValueError, match=r"mutant m: its old text stands . times in core/x.py"):
        mutant.mutate(text)


@pytest.mark.parametrize("name", ["client-told-before-commit", "span-cut-off-by-one"])
def test_a_mutant_is_caught_soon(name: str, tmp_path: Path) -> None:
    row = try_mutant(BY_NAME[name], copy_sources(tmp_path), seeds=10)

    assert row.caught, str(row)
    assert str(row).startswith(name)


def test_a_mutation_that_breaks_nothing_is_told(tmp_path: Path) -> None:
    harmless = Mutant(
        name="harmless",
        what="It says the same in other words.",
        file="core/control/state.py",
        old="self.counter += 1",
        new="self.counter = self.counter + 1",
    )

    row = try_mutant(harmless, copy_sources(tmp_path), seeds=1)

    assert not row.caught
    assert "NOT CAUGHT" in str(row)


def test_a_seed_that_fails_without_the_mutation_counts_for_nothing() -> None:
    row = Row(mutant=MUTANTS[0], all=Verdict(3, "error", "it raised"), alone=None, control=(2,))

    assert not row.caught
    assert "seed 2 fails without the mutation too" in str(row)
