"""The rules find what they are for, and only that."""

import ast
from collections.abc import Callable, Iterator

import pytest

from tests.structure import rules

Rule = Callable[[ast.Module], Iterator[str]]

CASES: list[tuple[Rule, str, str]] = [
    (rules.impure_calls, "print(x)", "log.print(x)"),
    (rules.impure_calls, "open('f')", "store.open('f')"),
    (rules.impure_calls, "hash(name)", "re.compile(name)"),
    (rules.float_equality, "x == 0.5", "x >= 0.5"),
    (rules.float_equality, "a / b != c", "a // b != c"),
    (rules.float_equality, "x == -1.0", "x == -1"),
    (rules.iterated_sets, "for x in {1, 2}: pass", "for x in (1, 2): pass"),
    (rules.iterated_sets, "s = set()\nfor x in s: pass", "s = set()\nfor x in sorted(s): pass"),
    (rules.iterated_sets, "def f(s: set[str]): return list(s)", "def f(s: set[str]): return len(s)"),
    (
        rules.iterated_sets,
        "def f(s: frozenset[str] | None): return [x for x in s]",
        "def f(s: list[str]): return list(s)",
    ),
    (rules.iterated_sets, "def f(s: set[str]): return s.pop()", "def f(s: list[str]): return s.pop()"),
    (rules.iterated_sets, "for x in a.keys() - b: pass", "for x in a.keys(): pass"),
    (
        rules.iterated_sets,
        "def f(d: dict[str, set[int]]):\n for x in d['a']: pass",
        "def f(d: dict[str, set[int]]):\n for x in d: pass",
    ),
    (rules.iterated_sets, "[*{1, 2}]", "{x for x in {1, 2}}"),
    (rules.forbidden_words, "class TaskWorker: pass", "class TaskRunner: pass"),
    (rules.forbidden_words, "def make_jobs(): pass", "def make_tasks(): pass"),
    (rules.forbidden_words, "pod_name = 1", "podium = 1"),
    (rules.forbidden_words, "class NodeManager: pass", "class SessionManager: pass"),
    (rules.forbidden_words, "def f(manager): pass", "def f(executor_manager): f(max_workers=2)"),
    (rules.fixed_sleeps, "def test():\n time.sleep(1)", "def test():\n while not done():\n  time.sleep(0.01)"),
    (rules.fixed_sleeps, "await asyncio.sleep(0.1)", "await asyncio.sleep(0)"),
    (
        rules.fixed_sleeps,
        "class A:\n def f(self): time.sleep(1)",
        "class A(FlameService):\n def f(self): time.sleep(1)",
    ),
]


@pytest.mark.parametrize(("rule", "bad", "good"), CASES)
def test_a_rule_finds_the_bad_and_passes_the_good(rule: Rule, bad: str, good: str) -> None:
    assert list(rule(ast.parse(bad)))
    assert not list(rule(ast.parse(good)))


def test_sets_in_attributes_are_known_across_files() -> None:
    definition = ast.parse("class State:\n    idle: set[str]\n    bound: dict[str, set[str]]\n")
    attributes = rules.set_attributes([definition])
    assert list(rules.iterated_sets(ast.parse("for x in state.idle: pass"), attributes))
    assert list(rules.iterated_sets(ast.parse("for x in state.bound['a']: pass"), attributes))
    assert not list(rules.iterated_sets(ast.parse("for x in state.bound: pass"), attributes))


def test_function_length_does_not_count_the_docstring() -> None:
    body = "def f():\n    '''a\n    b\n    c'''\n" + "    x = 1\n" * 5
    assert not list(rules.long_functions(ast.parse(body), 6))
    assert list(rules.long_functions(ast.parse(body), 5))


def test_docstrings_of_public_things_only() -> None:
    tree = ast.parse("'''Doc.'''\ndef _private(): ...\nclass Public:\n    '''Doc.'''\n    def method(self): ...\n")
    assert not list(rules.missing_docstrings(tree, methods=False))
    assert list(rules.missing_docstrings(tree, methods=True)) == ["5: Public.method has no docstring"]
    assert len(list(rules.missing_docstrings(ast.parse("def public(): ..."), methods=False))) == 2
