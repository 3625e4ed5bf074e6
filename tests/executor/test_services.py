"""Finding a service: what works, and what each failure says. (Processes: tests/executor_manager/test_node.py.)"""

import pickle
import sys
from pathlib import Path

import pytest

from flame.executor.failures import SCRIPT_MODULE
from flame.executor.services import ServiceUnusable, load_service

CLASS = "class S(FlameService):\n    def on_task_invoke(self, context): return b''\n"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, SCRIPT_MODULE, raising=False)
    return tmp_path / "app.py"


def failure(name: str) -> tuple[str, str, str]:
    with pytest.raises(ServiceUnusable) as caught:
        load_service(name)
    record = caught.value.record
    return record.type, record.message, record.traceback


def test_a_script_is_imported_beside_its_guard(script: Path) -> None:
    (script.parent / "beside.py").write_text("VALUE = 5\n")
    script.write_text(
        "import beside, dataclasses\nfrom flame.service import FlameService\n" + CLASS
        + "@dataclasses.dataclass\nclass D:\n    x: 'int'\n"
        + "if __name__ == '__main__': raise SystemError('ran as a script')\n"
    )  # fmt: skip
    service = load_service(f"{script}:S")
    assert type(service).__module__ == SCRIPT_MODULE
    kind = sys.modules[SCRIPT_MODULE].D
    assert pickle.loads(pickle.dumps(kind(3))).x == 3


def test_a_script_without_a_suffix(script: Path) -> None:
    (script.parent / "beside.py").write_text("VALUE = 5\n")
    command = script.with_suffix("")
    command.write_text("#!/usr/bin/env python3\nimport beside\nfrom flame.service import FlameService\n" + CLASS)
    service = load_service(f"{command}:S")
    assert type(service).__module__ == SCRIPT_MODULE
    assert not list(script.parent.glob("__pycache__/app*"))  # nothing is left beside a command
    command.write_text("def f(:\n")
    assert failure(f"{command}:S")[0] == "SyntaxError"
    command.unlink()
    assert "does not exist on this node" in failure(f"{command}:S")[1]


def test_a_module(script: Path) -> None:
    assert type(load_service("flame.service.flmping:Ping")).__name__ == "Ping"


@pytest.mark.parametrize(
    ("source", "kind", "text"),
    [
        ("import nothing_of_this_name\n", "ModuleNotFoundError", "nothing_of_this_name"),
        ("raise SystemExit(2)\n", "SystemExit", "__main__"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt", "import of service"),
        ("def f(:\n", "SyntaxError", "import of service"),
        ("S = 5\n", "TypeError", "not a class"),
        ("class S:\n    def on_task_invoke(self, c): pass\n", "TypeError", "derived from flame.FlameService"),
        ("from flame.service import FlameService\nclass S(FlameService): pass\n", "TypeError", "on_task_invoke"),
        ("T = 1\n", "AttributeError", "no attribute 'S'"),
        (
            "from flame.service import FlameService\n" + CLASS + "    def __init__(self): exit(1)\n",
            "SystemExit",
            "constr",
        ),
    ],
)
def test_scripts_that_cannot_serve(script: Path, source: str, kind: str, text: str) -> None:
    script.write_text(source)
    found, message, _ = failure(f"{script}:S")
    assert found == kind
    assert text in message


def test_the_users_frames_are_told(script: Path) -> None:
    script.write_text("def deep():\n    raise ValueError('deep down')\ndeep()\n")
    _, message, trace = failure(f"{script}:S")
    assert "deep down" in message
    assert "in deep" in trace
    assert "services.py" not in trace


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    assert "there is no module 'nowhere'" in failure("nowhere.inner:S")[1]
    assert "does not exist" in failure(f"{tmp_path}/none.py:S")[1]
    assert "not of the form" in failure("justaname")[1]
