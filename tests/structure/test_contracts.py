"""The import contracts hold, cover every package, and catch what they are for."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, SRC, python_files, tree_of

LINT_IMPORTS = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]


def lint(folder: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run import-linter with the contracts of `folder`."""
    return subprocess.run(
        [*LINT_IMPORTS, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True, timeout=100
    )


def contracts() -> dict[str, dict[str, Any]]:
    """The contracts by their id."""
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {contract["id"]: contract for contract in configuration["tool"]["importlinter"]["contracts"]}


def test_contracts_hold() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/bad.py", "import time", "core, protocol, kernel and model"),
        ("model/bad.py", "import random", "core, protocol, kernel and model"),
        ("protocol/bad.py", "import socket", "core, protocol, kernel and model"),
        ("kernel/bad.py", "import google.protobuf", "core, protocol, kernel and model"),
        ("model/bad.py", "import flame.kernel", "lower rows"),
        ("core/bad.py", "import flame.protocol", "lower rows"),
        ("stores/bad.py", "import flame.session_manager", "lower rows"),
        ("executor/bad.py", "import flame.supervisor", "lower rows"),
        ("strange/__init__.py", "", "lower rows"),
        ("session_manager/bad.py", "import grpc", "gRPC carrier"),
        ("sdk/bad.py", "import grpc", "gRPC carrier"),
        ("sdk/bad.py", "import flame.core", "no server code"),
        ("sdk/bad.py", "import flame.stores", "no server code"),
        ("sdk/bad.py", "import click", "no server code"),
    ],
)
def test_contracts_catch(module: str, line: str, contract: str, tmp_path: Path) -> None:
    shutil.copytree(SRC, tmp_path / "flame", ignore=shutil.ignore_patterns("__pycache__", "gen"))
    (tmp_path / "flame" / "wire" / "gen").mkdir(parents=True)
    (tmp_path / "flame" / "wire" / "gen" / "__init__.py").touch()
    (tmp_path / "flame" / "__init__.py").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "flame" / module).parent.mkdir(exist_ok=True)
    (tmp_path / "flame" / module).write_text(line + "\n", encoding="utf-8")
    result = lint(tmp_path, {"PYTHONPATH": str(tmp_path)})
    verdicts = " ".join(result.stdout.split()).replace("KEPT", "KEPT|").replace("BROKEN", "BROKEN|").split("|")
    broken = [verdict for verdict in verdicts if verdict.endswith("BROKEN")]
    assert any(contract in text for text in broken), result.stdout + result.stderr


def test_purity_covers_the_pure_packages() -> None:
    assert set(contracts()["pure"]["source_modules"]) == {"flame.core", "flame.protocol", "flame.kernel", "flame.model"}


def test_only_the_grpc_carrier_imports_grpc() -> None:
    for path in python_files("src"):
        names = {name.split(".")[0] for name in imported(tree_of(path))}
        is_carrier = path.parent == SRC / "carriers" and path.name.startswith("grpc")
        assert is_carrier or "grpc" not in names, f"{path.relative_to(ROOT)} imports grpc"


def imported(tree: ast.Module) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names
