"""Read YAML files into typed structs, with errors that say where and what is allowed."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from flame.model.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml

T = TypeVar("T", bound=msgspec.Struct)

_WHERE = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>\$.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_MOST_NODES = 100_000
"""Values of a file; each alias counts as all that it repeats."""
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")


def load(path: Path, kind: type[T], overrides: Mapping[str, Any] | None = None) -> T:
    """Read a YAML file (JSON is YAML too) into a struct.

    Args:
        path: the file.
        kind: the struct; it says which keys there are and what they may hold.
        overrides: keys that replace the file's, e.g. from the command line.

    Raises:
        ConfigurationError: unreadable, malformed, an unknown, missing or repeated key, or a value that is not allowed.

    Example:
        >>> load(Path("session-manager.yaml"), SessionManagerConfig).mode  # doctest: +SKIP
        'durable'
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file", hint="check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, kind, str(path), overrides)


def parse(text: str, kind: type[T], source: str, overrides: Mapping[str, Any] | None = None) -> T:
    """Read YAML text into a struct; `source` names it in errors. Otherwise as `load`."""
    if text.startswith("{"):
        try:
            return msgspec.convert({**msgspec.json.decode(text), **(overrides or {})}, kind)
        except (ValueError, RecursionError):
            pass  # not JSON, or wrong: the YAML reader, which takes 20 ms to import, says where
    document = _Document(text, source)
    content = document.content
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{source}: holds a {_name(content)}", hint="write `key: value` lines")
    try:
        return msgspec.convert({**content, **(overrides or {})}, kind)
    except msgspec.ValidationError as error:
        raise document.explain(str(error), kind) from None


class _Document:
    """A parsed YAML document that knows on which line each key stands."""

    def __init__(self, text: str, source: str) -> None:
        import yaml  # here, because it takes 20 ms and JSON needs none

        self.source, self._nodes = source, 0
        loader = (getattr(yaml, "CSafeLoader", None) or yaml.SafeLoader)(text)
        try:
            self.root: yaml.Node | None = loader.get_single_node()
            if self.root is not None:
                self._refuse_repeated(self.root, "")
            self.content: Any = None if self.root is None else loader.construct_document(self.root)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
            what = ", ".join(filter(None, (error.context, error.problem)))
            raise ConfigurationError(f"{where}: not valid YAML: {what}") from None
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{source}: not valid YAML: {str(error).splitlines()[0]}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{source}: not valid YAML: {error}") from None
        except (AttributeError, LookupError) as error:  # what PyYAML fails with at a value that its tag does not fit
            raise ConfigurationError(
                f"{source}: not valid YAML: a value does not fit its tag ({type(error).__name__}: {error})",
                hint="leave tags like !!bool and !!timestamp out",
            ) from None
        finally:
            loader.dispose()

    def explain(self, message: str, kind: type[msgspec.Struct]) -> ConfigurationError:
        """Turn a message of msgspec into one that names line, key and what is allowed."""
        match = _WHERE.fullmatch(message)
        assert match is not None
        what, path = match["what"], match["path"] or "$"
        steps = [key or int(index) for key, index in _STEP.findall(path)]
        key = path[2:]
        allowed = _type_at(kind, steps)
        if unknown := _UNKNOWN.fullmatch(what):
            names = _keys(allowed)
            line = self._line([*steps, unknown[1]])
            close = get_close_matches(unknown[1], names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the keys here are {', '.join(names)}"
            return ConfigurationError(f"{line}: unknown key {_join(key, unknown[1])!r}", hint=hint)
        if missing := _MISSING.fullmatch(what):
            return ConfigurationError(f"{self._line(steps)}: the key {_join(key, missing[1])!r} is missing")
        hint = ""
        if isinstance(allowed, msgspec.inspect.LiteralType):
            hint = f"one of {', '.join(map(str, allowed.values))}"
        return ConfigurationError(f"{self._line(steps)}: {key or 'document'}: {_lower(what)}", hint=hint)

    def _line(self, steps: list[str | int]) -> str:
        """`file:line` of the node that `steps` lead to, or as near as the document goes."""
        import yaml

        node, line = self.root, None
        for step in steps:
            child = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == step:
                        child, line = value, key.start_mark.line
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
                line = child.start_mark.line
            if child is None:
                break
            node = child
        return self.source if line is None else f"{self.source}:{line + 1}"

    def _refuse_repeated(self, node: "yaml.Node", path: str) -> None:
        import yaml

        self._nodes += 1
        if self._nodes > _MOST_NODES:  # aliases of aliases
            raise ConfigurationError(f"{self.source}: holds over {_MOST_NODES:,} values, with all that aliases repeat")
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    line = key.start_mark.line + 1
                    raise ConfigurationError(f"{self.source}:{line}: a key is a list or a mapping", hint="name it")
                name = key.value
                if name in seen:
                    line = key.start_mark.line + 1
                    raise ConfigurationError(f"{self.source}:{line}: the key {_join(path, name)!r} stands there twice")
                seen.add(name)
                self._refuse_repeated(value, _join(path, name))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._refuse_repeated(item, f"{path}[{index}]")


def _type_at(kind: type[msgspec.Struct], steps: list[str | int]) -> msgspec.inspect.Type:
    """The type of the value that `steps` lead to."""
    current = msgspec.inspect.type_info(kind)
    for step in steps:
        current = _without_none(current)
        if isinstance(current, msgspec.inspect.StructType):
            current = next((f.type for f in current.fields if f.encode_name == step), current)
        elif isinstance(current, msgspec.inspect.CollectionType):
            current = current.item_type
    return _without_none(current)


def _without_none(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """The member of `X | None` that is not None."""
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(t for t in kind.types if not isinstance(t, msgspec.inspect.NoneType))
    return kind


def _keys(kind: msgspec.inspect.Type) -> list[str]:
    return [f.encode_name for f in kind.fields] if isinstance(kind, msgspec.inspect.StructType) else []


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _name(value: object) -> str:
    return "list" if isinstance(value, list) else f"single {type(value).__name__}"
