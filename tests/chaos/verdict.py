"""From the logs of a chaos run and the store it left to a `History`, and to the figures of the report."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

from flame.model import chunk
from flame.protocol.client_attachment import Part
from flame.sim.history import HARMLESS, History, Violation, digest
from flame.stores.port import Store
from flame.stores.sqlite import SqliteStore
from tests.chaos.cluster import EXECUTORS, LEASE_MS
from tests.chaos.facts import Fact, input_of, outcome_of

MS = 1_000_000
KILLERS = ("executor manager", "fork server")
"""What takes the executors with it."""
_FOLLOW_NS = 500 * MS
"""How much longer they may live; one that was being started may even begin."""


class Service(msgspec.Struct):
    """A process of the service, by its log."""

    source: str
    session: str
    first_ns: int
    last_ns: int
    last: str = ""
    first_task: int = 0
    last_task: int = 0
    gone_ns: int = 0
    cause: str = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.source.split("-")[1])

    @property
    def key(self) -> tuple[str, int]:
        """Executor and binding, as a history names it: the binding is the time in the name of its log."""
        return self.source.split("-")[1], int(self.source.split("-")[2])


class Verdict(msgspec.Struct):
    """What is to be said at the end of a run; `seen` has how often clients were given results, by their letters."""

    violations: list[Violation]
    again: Counter[str]
    tasks: int
    runs: int
    sessions: int
    seen: Counter[str]
    calm_ms: list[float]
    wild_ms: list[float]

    @property
    def recovery(self) -> str:
        """From a kill of the session manager to the next result that some client saw."""
        return f"{_spread(self.calm_ms)}; with everything else broken too {_spread(self.wild_ms)}"


def _spread(values_ms: list[float]) -> str:
    if not values_ms:
        return "none measured"
    return f"p50 {median(values_ms):.0f} ms, max {max(values_ms):.0f} ms of {len(values_ms)}"


def judge(facts: list[Fact], store: Store, patience_ns: int) -> Verdict:
    """Tell a history all facts, and ask it."""
    history = History()
    history.node("n", EXECUTORS)
    services = {service.source: service for service in _services(facts)}
    faults = [fact for fact in facts if fact.words[0] == "fault"]
    for service in services.values():
        _find_end(service, faults)
    sessions = [fact.words[1] for fact in facts if fact.words[0] == "create"]
    events = [*_submissions(facts, store), *((fact.at_ns, 1, fact) for fact in facts)]
    for at_ns, _, fact in sorted(events, key=lambda event: event[:2]):
        _tell(history, at_ns, fact, services, sessions)
    for service in services.values():
        if service.gone_ns:
            # One that runs none just then is charged with the one it has just answered, if others follow it, and else
            # with the first one, if none of its reports was ever acknowledged.
            charged, other = service.first_task, service.last_task
            history.died(service.gone_ns, *service.key, cause=service.cause, charged=charged, or_charged=other)
            history.uncounted(service.last_ns + 1, *service.key)  # it may have been gone before the fault came
    end_ns = facts[-1].at_ns
    _tell_store(history, store, end_ns)
    recoveries = list(_recoveries(facts))
    return Verdict(
        violations=history.check(end_ns, patience_ns=patience_ns),
        again=history.again,
        tasks=history.counts["submitted"],
        runs=history.counts["started"],
        sessions=len(sessions),
        seen=Counter(fact.source[0] for fact in facts if fact.words[0] == "saw"),
        calm_ms=[ms for ms, calm in recoveries if calm],
        wild_ms=[ms for ms, calm in recoveries if not calm],
    )


# --- submissions -----------------------------------------------------------------------------------------------------


def _submissions(facts: list[Fact], store: Store) -> Iterator[tuple[int, int, Fact]]:
    """Who submitted which task: `submitted SESSION CLIENT FIRST INDEX COUNT`, at the time it was meant to.

    A client that was killed may have submitted what it could not log any more. The ids of these are found by their
    indexes, in what services have started and in the inputs that were stored.
    """
    meant: dict[tuple[str, int], tuple[int, str]] = {}
    for fact in facts:
        if fact.words[0] == "intent":
            session, first, count = fact.words[1], int(fact.words[2]), int(fact.words[3])
            for index in range(first, first + count):
                meant[session, index] = (fact.at_ns, fact.source)
    for fact in facts:
        if fact.words[0] == "sub":
            session, first, index, count = fact.words[1], *map(int, fact.words[2:5])
            at_ns, client = meant[session, index]
            for place in range(count):
                meant.pop((session, index + place), None)
            yield at_ns, 0, Fact(at_ns, client, ["submitted", session, str(first), str(index), str(count)])
    for session, task, index in _known_by_index(facts, store):
        if found := meant.pop((session, index), None):
            at_ns, client = found
            yield at_ns, 0, Fact(at_ns, client, ["submitted", session, str(task), str(index), "1"])


def _known_by_index(facts: list[Fact], store: Store) -> Iterator[tuple[str, int, int]]:
    for fact in facts:
        if fact.words[0] == "start":
            yield fact.words[4], int(fact.words[1]), int(fact.words[2])
    snapshot = store.recover()
    names = {record.number: record.name for record in snapshot.sessions}
    for header in snapshot.chunks:
        lengths, blob = store.read_inputs(header.session, header.first, header.count)
        for task, payload in enumerate(chunk.unpack(lengths, blob), header.first):
            assert payload is not None
            yield names[header.session], task, int(payload.split(b" ", 2)[1])


# --- facts -----------------------------------------------------------------------------------------------------------


def _tell(history: History, at_ns: int, fact: Fact, services: dict[str, Service], sessions: list[str]) -> None:
    word, *rest = fact.words
    source = fact.source
    match word, rest:
        case "create", [session, most]:
            history.session(session, max_instances=int(most) or None)
        case "submitted", [session, first, index, count]:
            inputs = [digest(input_of(session, int(index) + place)) for place in range(int(count))]
            history.submitted(at_ns, session, source, int(first), inputs)
        case "ack", [session, first, count]:
            history.acknowledged(at_ns, session, source, int(first), int(count))
        case "refused", [session, first, count]:
            history.refused(at_ns, session, source, int(first), int(count))
        case "saw", [session, first, outcomes, sequence]:
            values = [int(value) for value in outcomes.split(",")]
            history.saw(at_ns, session, source, int(first), values, sequence=int(sequence))
        case "ask", [session, first, count]:
            history.cancel_asked(session, int(first), int(count))
        case "cancelled", [session, first, count]:
            history.cancelled(at_ns, session, int(first), int(count))
        case "close", [session]:
            history.close_asked(session)
        case "delete", [session]:
            history.deleted(session)
        case "finish", [session, count] if int(count):
            history.finished(session, source)
        case _:
            _tell_of_cluster(history, at_ns, fact, services, sessions)


def _tell_of_cluster(
    history: History, at_ns: int, fact: Fact, services: dict[str, Service], sessions: list[str]
) -> None:
    word, *rest = fact.words
    source = fact.source
    match word, rest:
        case "enter", [session]:
            history.bound(at_ns, session, *services[source].key, node="n")
        case "start", [task, _, given, session]:
            history.started(at_ns, session, int(task), *services[source].key, input=int(given))
        case "end", [task, outcome, session]:
            history.ended(at_ns, session, int(task), *services[source].key, int(outcome))
        case "fault", [what, pid, duration_ms]:
            _tell_fault(history, at_ns, what.replace("_", " "), int(duration_ms), services)
            if what == "executor" and all(service.pid != int(pid) for service in services.values()):
                for session in sessions:  # it had not entered any: of which one it was is not known
                    history.start_failed(session)
        case "healed", _:
            history.healed(at_ns)


def _tell_fault(history: History, at_ns: int, what: str, duration_ms: int, services: dict[str, Service]) -> None:
    """A fault, and what nobody can know from then on of the processes that are there."""
    history.fault(at_ns, what)
    there = [service for service in services.values() if service.first_ns <= at_ns]
    wild = any(history.counts[f"fault: {kind}"] for kind in DISTURBING)
    for service in there:
        if wild and what == "session manager":
            history.unsure(at_ns, *service.key, "the session manager was killed while other parts were broken")
        if what == "executor manager stopped" and duration_ms > LEASE_MS / 2:
            history.unsure(at_ns, *service.key, "the lease may have been over")
            history.uncounted(at_ns, *service.key)
            if duration_ms > LEASE_MS + 1_000:
                history.lease_ended(at_ns + (LEASE_MS + 500) * MS, *service.key)


DISTURBING = ("executor stopped", "executor manager stopped", "fork server stopped", "connection of a node")
"""What keeps a process from hearing, or its node from speaking for it."""


def _tell_store(history: History, store: Store, end_ns: int) -> None:
    for record in store.recover().sessions:
        after = 0
        while segments := store.read_segments(record.number, after, 1 << 24):
            for segment in segments:
                after = segment.sequence
                part = Part(None, segment, segment.first, segment.count)  # type: ignore[arg-type]
                outcomes = [outcome_of(outcome) for outcome in part.outcomes()]
                history.stored(end_ns, record.name, segment.sequence, segment.first, outcomes)


# --- processes -------------------------------------------------------------------------------------------------------


def _services(facts: list[Fact]) -> list[Service]:
    found: dict[str, Service] = {}
    for fact in facts:
        if fact.words[0] == "enter":
            found[fact.source] = Service(fact.source, fact.words[1], fact.at_ns, fact.at_ns)
        if fact.source in found:
            service = found[fact.source]
            service.last_ns, service.last = fact.at_ns, " ".join(fact.words)
            if fact.words[0] == "start":
                service.last_task = int(fact.words[1])
                service.first_task = service.first_task or service.last_task
    return list(found.values())


def _find_end(service: Service, faults: list[Fact]) -> None:
    """When a process was gone at the latest, and why, as far as that can be told from its log and the faults."""
    words = service.last.split(" ")
    if words[0] == "start" and b" die " in input_of(service.session, int(words[2])):
        service.gone_ns, service.cause = service.last_ns + 1, "its task ended it"
        return
    for fault in faults:
        what, pid = fault.words[1].replace("_", " "), int(fault.words[2])
        mine = what == "executor" and pid == service.pid and fault.at_ns >= service.first_ns
        with_others = what in KILLERS and service.first_ns - _FOLLOW_NS < fault.at_ns > service.last_ns - _FOLLOW_NS
        if mine or with_others:
            service.gone_ns, service.cause = max(fault.at_ns, service.last_ns + 1), f"{what} killed"
            return


def _recoveries(facts: list[Fact]) -> Iterator[tuple[float, bool]]:
    """Milliseconds from each kill of the session manager to the first result that a client saw of the next one.

    Also whether nothing but what is `HARMLESS` had been broken until then.
    """
    killed_ns = back_ns = 0
    calm = True
    for fact in facts:
        if fact.words[0] == "fault":
            what, _, duration_ms = fact.words[1:]
            calm = calm and what.replace("_", " ") in HARMLESS
            if what == "session_manager" and duration_ms == "0":
                killed_ns, back_ns = killed_ns or fact.at_ns, 0
        elif fact.words[0] == "back" and killed_ns:
            back_ns = fact.at_ns
        elif fact.words[0] == "saw" and killed_ns and back_ns:
            yield (fact.at_ns - killed_ns) / MS, calm
            killed_ns = back_ns = 0


def open_store(data_dir: str) -> SqliteStore:
    """The store that a cluster has left."""
    store = SqliteStore(Path(data_dir) / "store")
    store.open()
    return store
