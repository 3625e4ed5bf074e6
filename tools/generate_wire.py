"""Generate `src/flame/wire/gen` from `proto/`.

Usage: `python tools/generate_wire.py [OUTPUT]`. Needs grpcio-tools. CI checks that what is committed is fresh.

The generated modules are flattened into one package, and register their descriptors in a pool of that package instead
of the process-wide one: a program may load `flamepy` (or stubs it made from the published files) beside Flame, and two
versions of one file in one pool are an error.
"""

import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "flame.wire.gen"
FILES = ("types", "frontend", "shim", "session_manager")


def generate(output: Path) -> None:
    """Write the generated modules into the directory `output`, which must exist.

    Raises:
        RuntimeError: protoc refused a file; it has printed why.
    """
    with tempfile.TemporaryDirectory() as scratch:
        arguments = [
            "protoc",
            f"-I{ROOT / 'proto'}",
            f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
            f"--python_out={scratch}",
            f"--pyi_out={scratch}",
            *(f"flame/v1/{name}.proto" for name in FILES),
        ]
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc failed")
        for name in FILES:
            for suffix in ("py", "pyi"):
                text = (Path(scratch) / "flame/v1" / f"{name}_pb2.{suffix}").read_text()
                (output / f"{name}_pb2.{suffix}").write_text(_adapt(text))


def _adapt(text: str) -> str:
    text = text.replace("from flame.v1 import ", f"from {PACKAGE} import ")
    text = text.replace("_descriptor_pool.Default()", "_POOL")
    text = text.replace(
        "from google.protobuf import descriptor_pool as _descriptor_pool\n", f"from {PACKAGE} import POOL as _POOL\n"
    )
    return text.replace("'flame.v1.", f"'{PACKAGE}.")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "src/flame/wire/gen")
