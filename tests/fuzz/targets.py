"""All targets of the fuzzer, by name."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from flame.model.limits import KIB
from tests.fuzz import columns, messages, published, shared, stream, texts


class Target(NamedTuple):
    """What is fuzzed.

    Args:
        run: raises where a promise is broken for these bytes.
        seeds: inputs to start from.
        most_bytes: longest input that is tried.
        mutate: makes another input near one, where bytes at random would nearly never be valid.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    most_bytes: int = 4 * KIB
    mutate: Callable[[bytes, random.Random], bytes] | None = None


TARGETS: Final[Mapping[str, Target]] = {
    "frames": Target(stream.frames, stream.frames_seeds),
    "packed": Target(messages.packed, messages.packed_seeds, mutate=messages.mutate_packed),
    "enveloped": Target(messages.enveloped, messages.enveloped_seeds),
    "requests": Target(published.requests, published.requests_seeds, mutate=published.mutate_request),
    "calls": Target(published.calls, published.calls_seeds, mutate=published.mutate_calls),
    "columns": Target(columns.columns, columns.columns_seeds),
    "table": Target(shared.table, shared.table_seeds),
    "configuration": Target(texts.configuration, texts.configuration_seeds),
    "endpoints": Target(texts.endpoints, texts.endpoints_seeds),
    "names": Target(texts.names, texts.names_seeds),
    "records": Target(texts.records, texts.records_seeds),
}
