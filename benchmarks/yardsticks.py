"""What the figures are held against: the same work without Flame, on the same machine in the same minutes."""

import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import SpawnContext
from multiprocessing.synchronize import Barrier
from pathlib import Path

from benchmarks.measure import Rate
from benchmarks.services import reverse, spin

PIECE_BYTES = 1 << 20
START_S = 60.0
"""How long a process of a yardstick may take to start."""


def small_inputs(start: int, count: int) -> Iterator[bytes]:
    """Distinct inputs of 30 bytes."""
    for number in range(start, start + count):
        yield b"%030d" % number


def pool_submit(seconds: float) -> float:
    """Tasks per second of `ProcessPoolExecutor(2)` with one `submit` per task, every output checked."""
    with ProcessPoolExecutor(2, mp_context=_context()) as pool:
        list(pool.map(reverse, small_inputs(0, 100)))
        rate, start, batch = Rate(), 0, 2_000
        while time.perf_counter() - rate.started < seconds:
            futures = [pool.submit(reverse, data) for data in small_inputs(start, batch)]
            for data, future in zip(small_inputs(start, batch), futures, strict=True):
                _check(future.result(), data[::-1])
            rate.add(batch)
            start += batch
    return rate.per_second


def pool_map(seconds: float) -> float:
    """Tasks per second of `ProcessPoolExecutor(2).map(chunksize=100)`: not durable, no fairness, one machine."""
    with ProcessPoolExecutor(2, mp_context=_context()) as pool:
        list(pool.map(reverse, small_inputs(0, 100)))
        rate, start, batch = Rate(), 0, 200_000
        while time.perf_counter() - rate.started < seconds:
            outputs = pool.map(reverse, small_inputs(start, batch), chunksize=100)
            for data, output in zip(small_inputs(start, batch), outputs, strict=True):
                _check(output, data[::-1])
            rate.add(batch)
            start += batch
    return rate.per_second


def turns_per_ms() -> int:
    """Turns of `services.spin` that take 1 ms on this machine when it is idle."""
    turns = 1_000
    best = min(_timed_spin(turns * 10) for _ in range(50)) / 10
    return max(1, round(turns * 0.001 / best))


def _timed_spin(turns: int) -> float:
    started = time.perf_counter()
    spin(turns)
    return time.perf_counter() - started


def bare_loop(turns: int, tasks: int) -> float:
    """Seconds that two bare processes take for `tasks` loops of `turns`, half each, after they have started."""
    context = _context()
    ready, go = context.Barrier(3), context.Barrier(3)
    processes = [context.Process(target=_spin_many, args=(turns, tasks // 2, ready, go)) for _ in range(2)]
    for process in processes:
        process.start()
    ready.wait(START_S)
    go.wait(START_S)
    started = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - started


def _spin_many(turns: int, tasks: int, ready: Barrier, go: Barrier) -> None:
    ready.wait(START_S)
    go.wait(START_S)
    for _ in range(tasks):
        spin(turns)


def synced_write(total_bytes: int, folder: Path) -> float:
    """MB/s of writing `total_bytes` to a new file one after the other, synced after each MiB.

    Flame makes the same promise chunk by chunk, and a chunk is cut at 1 MiB.
    """
    piece = os.urandom(PIECE_BYTES)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        started = time.perf_counter()
        for _ in range(max(1, total_bytes // PIECE_BYTES)):
            file.write(piece)
            file.flush()
            os.fdatasync(file.fileno())
        seconds = time.perf_counter() - started
    return max(1, total_bytes // PIECE_BYTES) * PIECE_BYTES / 1e6 / seconds


def loopback_copy(total_bytes: int) -> float:
    """MB/s of sending `total_bytes` from one process to another over a loopback TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = _context().Process(target=_send, args=(port, total_bytes))
        process.start()
        server.settimeout(START_S)
        connection, _ = server.accept()
        with connection:
            buffer = bytearray(PIECE_BYTES)
            connection.recv(1)
            started, received = time.perf_counter(), 0
            while count := connection.recv_into(buffer):
                received += count
            seconds = time.perf_counter() - started
        process.join()
    _check(received, total_bytes)
    return total_bytes / 1e6 / seconds


def _send(port: int, total_bytes: int) -> None:
    piece = os.urandom(PIECE_BYTES)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b".")
        left = total_bytes
        while left:
            connection.sendall(piece[:left])
            left -= min(left, len(piece))


def _context() -> SpawnContext:
    return multiprocessing.get_context("spawn")


def _check(found: object, expected: object) -> None:
    if found != expected:
        raise RuntimeError(f"a wrong output: {found!r} instead of {expected!r}")
