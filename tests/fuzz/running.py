"""The fuzzer's process: `python -m tests.fuzz.running TARGET OPTION... FOLDER...`, with options of libFuzzer.

A process of its own for each target, because the code under test has to be instrumented as it is imported, and because
libFuzzer ends the process at what it finds.
"""

import importlib
import random
import shlex
import sys
from typing import Any

INSTRUMENTED = ("flame", "yaml")
"""Packages whose branches lead the fuzzer."""


def main() -> None:
    """Fuzz one target until libFuzzer ends the process."""
    name, *options = sys.argv[1:]
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]

    def mutated(data: bytes, most_bytes: int, seed: int) -> bytes:
        """Half of the time as the target does it, otherwise as libFuzzer would."""
        chance = random.Random(seed)
        if chance.random() < 0.5:
            return bytes(target.mutate(bytes(data), chance)[:most_bytes])
        return bytes(atheris.Mutate(data, most_bytes))

    mutator = {} if target.mutate is None else {"custom_mutator": mutated}
    # What libFuzzer starts itself again by, in a shell.
    again = shlex.join([sys.executable, "-m", "tests.fuzz.running", name])
    atheris.Setup([again, f"-max_len={target.most_bytes}", *options], target.run, **mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
