"""Generated protobuf messages of package `flame.v1`: see `tools/generate_wire.py`. Imported by `flame.wire` only."""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
