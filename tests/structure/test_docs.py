"""The documentation is true: its commands run, its programs run as given, its links lead somewhere.

In a page, `<!-- run -->` before a ```console block runs its `$ ` lines and compares what they print: `...` stands for
any text, a line of its own for any lines. `<!-- file: NAME -->` before a block writes the block to that file. The
blocks of a page run in order, in one empty directory, as one user without a cluster.
"""

import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from flame.config.components import ExecutorManagerConfig, Limits, SessionManagerConfig
from flame.core.control.transitions import TABLES
from tests.support import ROOT, SRC
from tools import code_map, state_tables

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^<!-- (run|file: ([\w.-]+)) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#]+)(?:#[^)]*)?\)")
NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
NAMED_FILE = re.compile(r"`([\w.-]+/[\w./-]*(?:\.py|\.proto|/))`")


def page_name(page: Path) -> str:
    """A page as the tests name it."""
    return str(page.relative_to(ROOT))


def commands_of(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines it prints."""
    commands: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    return commands


def prints(expected: list[str], output: str) -> bool:
    """Whether `output` is what a page says."""
    patterns = [
        r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + r"\n" for line in expected
    ]
    return re.fullmatch("".join(patterns), output if not output or output.endswith("\n") else output + "\n") is not None


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of a page in `folder`, as a user whose home is there; `make` works on the checkout."""
    hidden = ("FLAME_", "XDG_", "MAKE", "MFLAGS", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        ["bash", "-c", f'make() {{ command make --no-print-directory -C "{ROOT}" "$@"; }}; {command}'],
        cwd=folder,
        env=environment | {"HOME": str(folder), "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.timeout(400)
@pytest.mark.skipif(not (ROOT / ".venv/bin/flame").exists(), reason="the pages use .venv, which `make setup` makes")
@pytest.mark.parametrize("page", [page for page in PAGES if BLOCK.search(page.read_text("utf-8"))], ids=page_name)
def test_commands_and_programs_of_a_page_run_as_given(page: Path, short_tmp: Path) -> None:
    (short_tmp / ".venv").symlink_to(ROOT / ".venv")
    text = page.read_text("utf-8")
    try:
        for kind, file, block in BLOCK.findall(text):
            if kind != "run":
                (short_tmp / file).write_text(block, "utf-8")
                continue
            for command, expected in commands_of(block):
                result = run(command, short_tmp)
                shown = f"$ {command}\n{result.stdout}\n--- stderr\n{result.stderr}"
                assert result.returncode == 0, shown
                assert prints(expected, result.stdout), "\n".join([shown, "--- expected", *expected])
    finally:
        run(".venv/bin/flame down", short_tmp)
        for data_dir in sorted(set(re.findall(r"--data-dir (~/\S+)", text))):
            run(f".venv/bin/flame down --data-dir {data_dir}", short_tmp)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_and_file_names_lead_somewhere(page: Path) -> None:
    text = CODE.sub("", page.read_text("utf-8"))
    for target in LINK.findall(text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page_name(page)} links to {target}, which does not exist"
    for name in NAMED_FILE.findall(text):
        assert (ROOT / name).exists() or (SRC / name).exists(), f"{page_name(page)} names {name}: it does not exist"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_tests_that_are_named_exist(page: Path) -> None:
    for file, test in NAMED_TEST.findall(page.read_text("utf-8")):
        text = (ROOT / file).read_text("utf-8") if (ROOT / file).exists() else ""
        assert f"def {test}(" in text, f"{page_name(page)} names {file}::{test}, which does not exist"


def test_the_code_map_is_up_to_date() -> None:
    assert code_map.PAGE.read_text("utf-8") == code_map.page_with(code_map.code_map()), "`make map` writes it anew"


def test_the_page_on_states_is_drawn_from_the_tables() -> None:
    page = state_tables.page_with(state_tables.state_tables())
    assert state_tables.PAGE.read_text("utf-8") == page, "`make map` writes it anew"
    assert page.count("```mermaid") == len(TABLES)


def test_the_page_on_configuration_lists_every_key_with_its_default() -> None:
    text = (ROOT / "docs/configuration.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", text, re.MULTILINE))
    keys: dict[str, object] = {}
    for prefix, kind in (("", SessionManagerConfig), ("limits.", Limits), ("", ExecutorManagerConfig)):
        for field in msgspec.structs.fields(kind):
            keys[prefix + field.name] = field.default
    assert rows.keys() == keys.keys() - {"limits"}
    for key, default in keys.items():
        if default is msgspec.NODEFAULT:
            assert rows[key] == "required"
        elif default != "" and key != "limits":  # an empty text stands for what the page says in words
            assert rows[key].strip("`") == str(default), key


def test_every_program_of_the_readme_runs_as_given() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    programs = re.findall(r"^```python\n", text, re.MULTILINE)
    assert len(programs) == len(re.findall(r"^<!-- file: .* -->\n```python\n", text, re.MULTILINE))


def test_nothing_tells_to_install_the_package_of_somebody_else() -> None:
    for page in [*PAGES, ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / ".ci/run"]:
        wrong = re.search(r"pip3? install (?:-\S+ )*[\"']?flame(?![-\w/])", page.read_text("utf-8"))
        assert wrong is None, f"{page_name(page)}: {wrong.group()!r}"


@pytest.mark.parametrize(
    ("expected", "output", "same"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a", "...", "b"], "a\nx\ny\nb\n", True),
        (["<10> in <... ms>"], "<10> in <3.5 ms>", True),
        (["..."], "", True),
        (["a"], "a\nb\n", False),
        ([], "a\n", False),
    ],
)
def test_what_a_page_says_is_compared(expected: list[str], output: str, same: bool) -> None:
    assert prints(expected, output) is same
