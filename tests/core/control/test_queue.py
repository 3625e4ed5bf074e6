"""The queue against a plain list of task ids."""

from hypothesis import given
from hypothesis import strategies as st

from flame.core.control.queue import Chunk, Span, TaskQueue, cut
from flame.model.chunk import pack, unpack
from flame.model.limits import MAX_CHUNK_BYTES, MAX_CHUNK_TASKS


def chunk_of(first: int, count: int, *, resident: bool = True) -> Chunk:
    lengths, blob = pack([b"%d" % task for task in range(first, first + count)])
    parts = ([lengths], [blob]) if resident else ([], [])
    return Chunk(first, count, *parts, len(blob), 1, count, resident=resident)


def ids(spans: list[Span]) -> list[int]:
    return [task for span in spans for task in range(span.first, span.end)]


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=6),
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(1, 30), st.just(0)),
            st.tuples(st.just("back"), st.integers(0, 5), st.just(0)),
            st.tuples(st.just("remove"), st.integers(1, 100), st.integers(1, 30)),
        ),
        max_size=30,
    ),
)
def test_what_is_taken_put_back_and_removed_is_what_a_list_would_say(
    sizes: list[int], steps: list[tuple[str, int, int]]
) -> None:
    queue = TaskQueue()
    model: list[int] = []
    first = 1
    for size in sizes:
        queue.append(Span(chunk_of(first, size), first, size))
        model.extend(range(first, first + size))
        first += size
    out: list[Span] = []
    for kind, value, length in steps:
        if kind == "take":
            span = queue.take(value)
            assert (span is None) == (not model)
            if span is not None:
                assert ids([span]) == model[: span.count]
                assert span.count <= value
                del model[: span.count]
                out.append(span)
        elif kind == "back":
            back, out = out[:value], out[value:]
            model = sorted(ids(back)) + model
            queue.put_back(back)
        else:
            removed = queue.remove(value, value + length)
            assert sorted(ids(removed)) == sorted(task for task in model if value <= task < value + length)
            model = [task for task in model if not value <= task < value + length]
        assert ids(list(queue.spans)) == model
        assert queue.tasks == len(model)
        assert all(span.chunk.first <= span.first and span.end <= span.chunk.end for span in queue.spans)
    assert ids(queue.clear()) == model
    assert queue.tasks == 0


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 10)), max_size=8), st.integers(1, 50), st.integers(1, 50))
def test_cut_takes_what_lies_inside_and_leaves_the_rest(parts: list[tuple[int, int]], one: int, other: int) -> None:
    chunk = chunk_of(1, 60)
    spans = [Span(chunk, first, count) for first, count in parts]
    before = sorted(ids(spans))
    low, high = min(one, other), max(one, other)
    taken = cut(spans, low, high)
    assert all(low <= task < high for task in ids(taken))
    assert not any(low <= task < high for task in ids(spans))
    assert sorted(ids(taken) + ids(spans)) == before
    assert all(span.count > 0 for span in spans + taken)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(1, 20)), min_size=1, max_size=10))
def test_any_slice_of_a_chunk_has_its_own_inputs(slices: list[tuple[int, int]]) -> None:
    chunk = chunk_of(95, 20)
    for index, count in slices:
        end = min(95 + index + count, 115)
        lengths, blob = chunk.slice(95 + index, end - 95 - index)
        assert unpack(lengths, blob) == [b"%d" % task for task in range(95 + index, end)]


def test_a_chunk_takes_its_neighbour_up_to_the_limits_and_no_other() -> None:
    chunk = chunk_of(1, MAX_CHUNK_TASKS - 1)
    assert chunk.accepts(MAX_CHUNK_TASKS, 1, 10, b"")
    assert not chunk.accepts(MAX_CHUNK_TASKS, 2, 10, b""), "too many tasks"
    assert not chunk.accepts(MAX_CHUNK_TASKS, 1, MAX_CHUNK_BYTES, b""), "too many bytes"
    assert not chunk.accepts(MAX_CHUNK_TASKS + 1, 1, 10, b""), "a gap"
    assert not chunk.accepts(MAX_CHUNK_TASKS, 1, 10, b"x"), "other attributes"
    chunk.loading = True
    assert not chunk.accepts(MAX_CHUNK_TASKS, 1, 10, b""), "what is being read back has a fixed size"


def test_single_tasks_grow_one_chunk_and_one_span() -> None:
    queue = TaskQueue()
    chunk = chunk_of(1, 1)
    queue.append(Span(chunk, 1, 1))
    for task in range(2, 100):
        chunk.append(1, *pack([b"%d" % task]), 1)
        queue.append(Span(chunk, task, 1))
    assert len(queue.spans) == 1
    span = queue.take(1000)
    assert span is not None
    assert unpack(*chunk.slice(span.first, span.count)) == [b"%d" % task for task in range(1, 100)]


def test_payloads_that_are_not_in_memory_are_asked_for_from_the_front_and_once() -> None:
    queue = TaskQueue()
    chunks = [chunk_of(1 + 10 * place, 10, resident=False) for place in range(4)]
    for chunk in chunks:
        queue.append(Span(chunk, chunk.first, chunk.count))
    assert queue.take(1) is None
    assert list(queue.absent(500)) == chunks[:2], "as many as fit, and one more"
    chunks[0].loading = True
    assert list(queue.absent(500)) == chunks[1:2]
    chunks[0].fill(*pack([b"x"] * 10))
    span = queue.take(3)
    assert span is not None
    assert ids([span]) == [1, 2, 3]
