"""What an executor has to import for a class that the user passes to `register_application`."""

import os
import sys
from importlib.util import find_spec
from types import ModuleType

from flame.model.errors import InvalidArgument
from flame.service import FlameService


def locate_service(service: type | str) -> tuple[str, str]:
    """The service as `module:Class` or `/path/script.py:Class`, and the directory to put on the import path, or "".

    Raises:
        InvalidArgument: not a class derived from `FlameService`, or one that another process cannot import.
    """
    if isinstance(service, str):
        return _of_text(service)
    if not _is_service(service):
        raise InvalidArgument(
            f"service {service!r} is not a class derived from flame.FlameService",
            hint='pass the class itself, or "package.module:Class"',
        )
    if "<locals>" in service.__qualname__:
        raise InvalidArgument(
            f"service {service.__qualname__} is defined inside a function, where no executor can find it",
            hint="define it at the top of a file",
        )
    if service.__module__ == "__main__":
        return _of_main(service)
    module = sys.modules.get(service.__module__)
    return f"{service.__module__}:{service.__qualname__}", _root_of(service.__module__, _file_of(module))


def _is_service(service: object) -> bool:
    return isinstance(service, type) and issubclass(service, FlameService)


def _of_text(service: str) -> tuple[str, str]:
    place, colon, name = service.rpartition(":")
    if not colon or not place or not name:
        raise InvalidArgument(
            f"service {service!r} is not of the form module:Class",
            hint='write "package.module:Class", "script.py:Class" or "/path/of/script:Class"',
        )
    if place.endswith(".py") or "/" in place:
        path = os.path.abspath(place)
        return f"{path}:{name}", os.path.dirname(path)
    try:
        spec = find_spec(place.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    if spec is None:  # it may exist where the executors are
        return service, ""
    if spec.submodule_search_locations:
        return service, _needed(os.path.dirname(next(iter(spec.submodule_search_locations))))
    return service, _needed(os.path.dirname(spec.origin)) if spec.has_location and spec.origin else ""


def _of_main(service: type) -> tuple[str, str]:
    main = sys.modules["__main__"]
    path = _file_of(main)
    if not path or not os.path.isfile(path):
        raise InvalidArgument(
            f"service {service.__qualname__} was defined at a prompt, where no executor can find it",
            hint="put the class into a file",
        )
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:  # python -m package.module: its relative imports work under its own name only
        return f"{spec.name}:{service.__qualname__}", _root_of(spec.name, path)
    return f"{path}:{service.__qualname__}", os.path.dirname(path)


def _file_of(module: ModuleType | None) -> str:
    path = getattr(module, "__file__", None)
    return os.path.abspath(path) if isinstance(path, str) else ""


def _root_of(module: str, path: str) -> str:
    """The directory from which `module`, in the file `path`, is imported, if an executor needs to be told."""
    if not path:
        return ""
    levels = module.count(".") + (os.path.basename(path) == "__init__.py")
    root = os.path.dirname(path)
    for _ in range(levels):
        root = os.path.dirname(root)
    return _needed(root)


def _needed(root: str) -> str:
    """`root`, unless this Python has it on its path anyway."""
    import sysconfig

    paths = sysconfig.get_paths()
    installed = {os.path.realpath(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return "" if os.path.realpath(root) in installed else os.path.abspath(root)
