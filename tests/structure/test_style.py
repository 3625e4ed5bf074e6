"""The written style of the project, checked on every file (ARCHITECTURE.md, "Style")."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.structure import exceptions, rules
from tests.support import ROOT, SRC, python_files, tree_of

PURE = ("core", "kernel", "model", "protocol")
MOST_LINES = 500
MOST_FUNCTION_LINES = 60

SOURCES = list(python_files("src"))
PURE_SOURCES = [path for path in SOURCES if path.relative_to(SRC).parts[0] in PURE]
PROGRAMS = [*SOURCES, *python_files("benchmarks", "tools", "examples")]
TESTS = list(python_files("tests"))
PURE_ATTRIBUTES = rules.set_attributes(tree_of(path) for path in PURE_SOURCES)


def name_of(path: Path) -> str:
    """A file as findings and exceptions name it."""
    return str(path.relative_to(SRC if path.is_relative_to(SRC) else ROOT))


def check(path: Path, findings: Iterator[str]) -> None:
    """Fail with all findings of a file."""
    lines = [f"{path.relative_to(ROOT)}:{finding}" for finding in findings]
    assert not lines, "\n" + "\n".join(lines)


@pytest.mark.parametrize("path", PURE_SOURCES, ids=name_of)
def test_pure_code_is_pure(path: Path) -> None:
    tree = tree_of(path)
    check(path, rules.impure_calls(tree))
    check(path, rules.iterated_sets(tree, PURE_ATTRIBUTES))
    check(path, rules.float_equality(tree))


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    name = name_of(path)
    if name not in exceptions.LONGER_THAN_500_LINES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, f"{name} has {lines} lines: split it by what it is about"
    long = rules.long_functions(tree_of(path), MOST_FUNCTION_LINES)
    check(path, (line for line in long if f"{name}:{line.split()[1]}" not in exceptions.LONGER_THAN_60_LINES))


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_names_use_the_words_of_flame(path: Path) -> None:
    found = rules.forbidden_words(tree_of(path))
    check(path, (line for line in found if line.split("'")[1] not in exceptions.NAMES))
    words = {word for part in path.relative_to(ROOT).with_suffix("").parts for word in rules.words_of(part)}
    assert not words & rules.FORBIDDEN_WORDS, f"{name_of(path)}: not a word of Flame"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name != "__init__.py"], ids=name_of)
def test_public_things_have_docstrings(path: Path) -> None:
    seen_by_users = path.relative_to(SRC).parts[0] in ("sdk", "service")
    check(path, rules.missing_docstrings(tree_of(path), methods=seen_by_users))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_each_module_has_its_test_file(path: Path) -> None:
    name = path.relative_to(SRC)
    if str(name) in exceptions.WITHOUT_TEST_FILE or not has_code(tree_of(path)):
        return
    expected = home_of_tests(name)
    assert expected.exists(), f"{name} has no test file: write {expected.relative_to(ROOT)}"


def home_of_tests(name: Path) -> Path:
    """Where the tests of a module (relative to src/flame) stand."""
    return ROOT / "tests" / name.parent / f"test_{name.stem.strip('_')}.py"


def has_code(tree: ast.Module) -> bool:
    """Whether a module holds more than a docstring, imports and names re-exported from them."""
    for node in tree.body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant()):
                continue
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                continue
        return True
    return False


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_tests_wait_for_conditions(path: Path) -> None:
    if str(path.relative_to(ROOT / "tests")) not in exceptions.FIXED_SLEEPS:
        check(path, rules.fixed_sleeps(tree_of(path)))


def test_every_exception_is_still_needed_and_has_a_reason() -> None:
    for listed in (exceptions.WITHOUT_TEST_FILE, exceptions.LONGER_THAN_500_LINES, exceptions.LONGER_THAN_60_LINES):
        for name, reason in listed.items():
            assert (SRC / name.split(":")[0]).exists(), f"{name} does not exist any more"
            assert len(reason) > 10, f"{name}: say why"
    for name in exceptions.WITHOUT_TEST_FILE:
        assert not home_of_tests(Path(name)).exists(), f"{name} has a test file now"
    for name, reason in exceptions.FIXED_SLEEPS.items():
        assert list(rules.fixed_sleeps(tree_of(ROOT / "tests" / name))), f"{name} does not sleep any more"
        assert len(reason) > 10, f"{name}: say why"
