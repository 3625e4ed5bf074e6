"""Which name and import root an executor gets for a class."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flame
from flame.sdk.services import locate_service
from tests.support import ROOT


class Outer:
    class Inner(flame.FlameService):
        """A nested service."""


def test_a_class_of_a_module_beside_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("import flame\nclass Top(flame.FlameService): pass\n")
    (tmp_path / "my_package" / "inner.py").write_text("import flame\nclass Deep(flame.FlameService): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    top = importlib.import_module("my_package").Top
    deep = importlib.import_module("my_package.inner").Deep
    assert locate_service(top) == ("my_package:Top", str(tmp_path))
    assert locate_service(deep) == ("my_package.inner:Deep", str(tmp_path))
    assert locate_service("my_package.inner:Deep") == ("my_package.inner:Deep", str(tmp_path))
    assert locate_service("nowhere.to.be.found:Deep") == ("nowhere.to.be.found:Deep", "")
    assert locate_service("json:JSONDecoder")[1] == ""


def test_nested_classes_have_their_whole_name() -> None:
    assert locate_service(Outer.Inner)[0] == f"{__name__}:Outer.Inner"


@pytest.mark.parametrize("service", [int, "Class", ":Class", "module:", 5, Outer])
def test_what_is_no_service(service: object) -> None:
    with pytest.raises(flame.InvalidArgument, match="service"):
        locate_service(service)  # type: ignore[arg-type]


def test_a_class_inside_a_function_cannot_be_found() -> None:
    class Local(flame.FlameService):
        """Nobody can import it."""

    with pytest.raises(flame.InvalidArgument, match="defined inside a function"):
        locate_service(Local)


SCRIPT = """
import flame
from flame.sdk.services import locate_service
class Mine(flame.FlameService): pass
print(*locate_service(Mine), sep="|")
"""


def _output(arguments: list[str], directory: Path, script: str = "") -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=directory, input=script, env=env, capture_output=True, text=True).stdout.strip()


def test_a_class_of_the_running_script(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(SCRIPT)
    assert _output(["pack/app.py"], tmp_path) == f"{package}/app.py:Mine|{package}"
    (package / "command").write_text(SCRIPT)
    assert _output(["pack/command"], tmp_path) == f"{package}/command:Mine|{package}"
    assert _output(["-m", "pack.app"], tmp_path) == f"pack.app:Mine|{tmp_path}"


def test_a_class_typed_at_a_prompt_cannot_be_found(tmp_path: Path) -> None:
    script = SCRIPT.replace("print(", "try: print(").rstrip() + "\nexcept flame.InvalidArgument as e: print(e)\n"
    assert "defined at a prompt" in _output(["-"], tmp_path, script)


def test_a_script_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate_service("app.py:Mine") == (f"{tmp_path}/app.py:Mine", str(tmp_path))
    assert locate_service("./bin/app:Mine") == (f"{tmp_path}/bin/app:Mine", f"{tmp_path}/bin")
