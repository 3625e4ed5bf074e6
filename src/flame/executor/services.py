"""Finding the class that serves an application: `package.module:Class` or `/path/of/script.py:Class`."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from flame.executor.failures import SCRIPT_MODULE, failure_of
from flame.model.errors import FailureRecord
from flame.service import FlameService, importing


class ServiceUnusable(Exception):
    """A service that cannot be used, with the record that tells why."""

    def __init__(self, record: FailureRecord) -> None:
        super().__init__(record.message)
        self.record = record


def load_service(name: str) -> FlameService:
    """Import a service and make its instance.

    A script is imported under another name, so that its `if __name__ == "__main__"` part does not run, with its
    directory on the import path.

    Raises:
        ServiceUnusable: it cannot be imported, is no service, or its constructor raised.
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not attribute:
        raise _unusable(f"service {name!r} is not of the form package.module:Class or /path/of/script.py:Class")
    importing.active, importing.source = True, name
    try:
        module = _import(place, name)
    finally:
        importing.active, importing.source = False, ""
    kind = _class_of(module, place, attribute)
    try:
        return kind()
    except BaseException as error:
        raise ServiceUnusable(failure_of(error, f"the constructor of service {name} raised")) from error


def _import(place: str, name: str) -> ModuleType:
    try:
        if place.endswith(".py") or "/" in place:
            return _import_script(Path(place))
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name and (place == error.name or place.startswith(error.name + ".")):
            raise _unusable(
                f"service {name}: there is no module {error.name!r} on the import path of its executor "
                f"({', '.join(path for path in sys.path if path)}); give the application a working_directory "
                "that contains it",
                "ModuleNotFoundError",
            ) from error
        raise ServiceUnusable(failure_of(error, f"the import of service {name} failed")) from error
    except ServiceUnusable:
        raise
    except SystemExit as error:
        raise ServiceUnusable(
            failure_of(
                error, f'the import of service {name} called sys.exit; put such code under `if __name__ == "__main__"`'
            )
        ) from error
    except BaseException as error:
        raise ServiceUnusable(failure_of(error, f"the import of service {name} failed")) from error


class _ScriptLoader(SourceFileLoader):
    """Loads a script that has no suffix, such as a command in `bin/`, and leaves no compiled file beside it."""

    def path_stats(self, path: str) -> Mapping[str, int]:
        """No compiled file is looked for, or written, of what has no time of change."""
        raise OSError(f"{path} is not compiled ahead")


def _import_script(path: Path) -> ModuleType:
    if not path.is_file():
        raise _unusable(f"service script {path} does not exist on this node", "FileNotFoundError")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(SCRIPT_MODULE, path)
    if spec is None:  # no suffix that Python knows
        loader = _ScriptLoader(SCRIPT_MODULE, str(path))
        spec = importlib.util.spec_from_file_location(SCRIPT_MODULE, path, loader=loader)
    if spec is None or spec.loader is None:
        raise _unusable(f"service script {path} cannot be imported", "ImportError")
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT_MODULE] = module
    spec.loader.exec_module(module)
    return module


def _class_of(module: ModuleType, place: str, attribute: str) -> type[FlameService]:
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _unusable(f"{place} has no attribute {attribute!r}", "AttributeError") from None
    if not isinstance(found, type) or not issubclass(found, FlameService):
        raise _unusable(f"{place}:{attribute} is not a class derived from flame.FlameService", "TypeError")
    if found.on_task_invoke is FlameService.on_task_invoke:
        raise _unusable(f"{place}:{attribute} does not define on_task_invoke", "TypeError")
    return found


def _unusable(message: str, kind: str = "ValueError") -> ServiceUnusable:
    return ServiceUnusable(FailureRecord(message, type=kind))
