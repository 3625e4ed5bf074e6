"""Write the code map of ARCHITECTURE.md: one line per module, from the first sentence of its docstring.

`make map` runs it; `tests/structure/test_docs.py` checks that the page is up to date.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "flame"
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- code map: made by tools/code_map.py from the docstrings of the modules -->\n"
END = "<!-- end of the code map -->\n"

ORDER = (
    *(
        "cli",
        "sim",
        "session_manager",
        "executor_manager",
        "executor",
        "supervisor",
        "stores",
        "sandbox",
        "sdk",
        "carriers",
    ),
    *("wire", "config", "core", "protocol", "service", "kernel", "model"),
)
"""Packages from the top of the layers to the bottom; one that is not named comes last."""


def code_map() -> str:
    """The map as Markdown."""
    packages = sorted((path for path in SRC.iterdir() if (path / "__init__.py").exists()), key=_place)
    blocks = [_table("", [path for path in sorted(SRC.glob("*.py")) if _sentence(path)])]
    for package in packages:
        modules = [path for path in sorted(package.rglob("*.py")) if "gen" not in path.parts and _sentence(path)]
        blocks.append(_table(package.name, modules))
    return "\n".join(block for block in blocks if block)


def page_with(text: str) -> str:
    """ARCHITECTURE.md with its map replaced by `text`."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2]


def _place(package: Path) -> tuple[int, str]:
    return (ORDER.index(package.name) if package.name in ORDER else len(ORDER), package.name)


def _table(package: str, modules: list[Path]) -> str:
    if not modules:
        return ""
    title = f"**`{package}/`**" if package else "**`flame`**"
    lines = [f"- `{_name(path)}`: {_sentence(path)}" for path in modules]
    return "\n".join([title, "", *lines, ""])


def _name(path: Path) -> str:
    name = path.relative_to(SRC)
    return f"{name.parent}/" if name.name == "__init__.py" and name.parent != Path() else str(name)


def _sentence(path: Path) -> str:
    """The first sentence of a module's docstring, or nothing."""
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", paragraph)[0]


if __name__ == "__main__":
    PAGE.write_text(page_with(code_map()), "utf-8")
