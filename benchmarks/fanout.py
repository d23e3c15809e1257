"""Live events: one room with 200 sockets against a broadcast in memory, on one process and on two.

`python -m benchmarks.fanout`
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import orjson

from benchmarks import seeding
from benchmarks.figures import Better, Figure, Goal, Samples, number, print_figures, ratio_figure
from benchmarks.plan import Plan, plan_from_arguments
from benchmarks.processes import cpu_seconds, memory_mib
from benchmarks.sockets import NUMBER, RoomLoad, RoomResult, RoomSocket, open_sockets, run_room
from benchmarks.stack import RAISED_LIMITS, Server, Stack, stop_on_signals
from chat_api.kit.models import new_id
from chat_api.messages.schemas import MESSAGE_EXAMPLE

WRITERS = 8
IN_FLIGHT = 2
UNHEARD_MESSAGES = 200
RATIO_GOAL = Goal(0.60, Better.HIGHER)
LATENCY_GOAL = Goal(100.0, Better.LOWER)
TWO_GOAL = Goal(1.0, Better.HIGHER)
UNHEARD_GOAL = Goal(5.0, Better.LOWER)

_WS = "/api/v1/ws"
_PEOPLE_IN_SMALL_ROOM = 10
_SETTLE_SECONDS = 0.5
_CONTENT = f"##{NUMBER} {seeding.CONTENT}"


@dataclass(frozen=True)
class Scale:
    """How many sockets are in the large room, and how many small rooms there are."""

    sockets: int
    small_rooms: int

    @classmethod
    def of(cls, plan: Plan) -> Scale:
        return cls(sockets=40, small_rooms=10) if plan.short else cls(sockets=200, small_rooms=100)

    @property
    def title(self) -> str:
        return (
            f"Fan-out: a room with {self.sockets} sockets, {WRITERS} of which write,"
            f" {IN_FLIGHT} messages of each in flight"
        )


@dataclass(frozen=True)
class _Rooms:
    """`large` has everybody, each of `small` some of them; `lonely` is one person's."""

    large: UUID
    everybody: Sequence[seeding.Person]
    small: Sequence[tuple[UUID, Sequence[seeding.Person]]]
    lonely: UUID


def measure(stack: Stack, plan: Plan) -> list[Figure]:
    _allow_open_files()
    rooms = asyncio.run(_prepare(stack, Scale.of(plan)))
    bare = _bare_server(stack)
    one, two = (stack.api() for _ in range(2))
    figures = [
        *_rates_and_latency(rooms, bare, one, two, plan),
        *_unheard(rooms, one, two, plan),
    ]
    # New processes: what others have freed would be used again.
    fresh = (two, bare) if plan.short else (stack.api(), _bare_server(stack))
    figures += _memory(*fresh, rooms)
    raised = ", ".join(name.removeprefix("COLLOQUY_").lower() for name in RAISED_LIMITS)
    return [*figures, Figure("limits raised to 100,000", raised)]


def _bare_server(stack: Stack) -> Server:
    return stack.serve("bare", [sys.executable, "-m", "benchmarks.bare_broadcast"], path="/")


# -- deliveries and how long they take -----------------------------------------------------------------------------


def _rates_and_latency(rooms: _Rooms, bare: Server, one: Server, two: Server, plan: Plan) -> list[Figure]:
    def run(sockets: Sequence[RoomSocket], servers: Sequence[Server], per_second: float = 0.0) -> RoomResult:
        pids = [server.pid for server in servers]
        return run_room(RoomLoad(sockets, plan.seconds, plan.warm_up_seconds, IN_FLIGHT, per_second, pids=pids))

    in_memory = _bare_room(bare, len(rooms.everybody))
    on_one, on_two = _large_room(rooms, [one]), _large_room(rooms, [one, two])
    limit, ours, both = [], [], []
    for _ in range(plan.rounds):
        limit.append(run(in_memory, [bare]))
        ours.append(run(on_one, [one]))
        both.append(run(on_two, [one, two]))
    rate = statistics.median(item.deliveries_per_second for item in ours)
    half = rate / 2 / len(rooms.everybody)
    calm, calm_limit = [], []
    for _ in range(1 if plan.short else 3):
        calm.append(run(on_one, [one], half))
        calm_limit.append(run(in_memory, [bare], half))
    p99 = _samples(calm, lambda item: item.p99_ms)
    return [
        ratio_figure(
            "fan-out, one process", _deliveries(ours), _deliveries(limit), "deliveries/s", "in memory", RATIO_GOAL
        ),
        Figure(
            "fan-out: messages stored",
            _samples(ours, lambda item: item.messages_per_second).text("messages/s"),
            f"load generator {number(statistics.median(item.generator_cpu for item in ours))} of a core",
        ),
        Figure(
            "fan-out: time of the server",
            f"{_cpu(ours).text('µs a delivery')}, of two processes {_cpu(both).text('µs')}",
            f"in memory {_cpu(limit).text('µs')}",
        ),
        ratio_figure(
            "fan-out, two processes", _deliveries(both), _deliveries(ours), "deliveries/s", "one process", TWO_GOAL
        ),
        Figure(
            name="fan-out: p99 at half that rate",
            ours=f"{p99.text('ms')}, p50 {_samples(calm, lambda item: item.p50_ms).text('ms')},"
            f" longest {number(max(item.longest_ms for item in calm))} ms",
            limit=f"in memory {_samples(calm_limit, lambda item: item.p99_ms).text('ms')}",
            judged=p99.median,
            judged_as="p99 ms",
            goal=LATENCY_GOAL,
        ),
    ]


def _samples(results: Sequence[RoomResult], value: Callable[[RoomResult], float]) -> Samples:
    return Samples([value(item) for item in results])


def _deliveries(results: Sequence[RoomResult]) -> Samples:
    return _samples(results, lambda item: item.deliveries_per_second)


def _cpu(results: Sequence[RoomResult]) -> Samples:
    return _samples(results, lambda item: item.cpu_us_per_delivery)


def _large_room(rooms: _Rooms, servers: Sequence[Server]) -> list[RoomSocket]:
    """Everybody has one socket, on the servers in turn."""
    return [
        _socket(servers[index % len(servers)], rooms.large, person, writes=index < WRITERS)
        for index, person in enumerate(rooms.everybody)
    ]


def _socket(
    server: Server, session: UUID, person: seeding.Person, *, writes: bool = False, room: int = 0
) -> RoomSocket:
    message = {
        "type": "message.send",
        "session_id": str(session),
        "client_id": f"{new_id()}-{NUMBER}",
        "content": _CONTENT,
    }
    opening = (
        orjson.dumps({"type": "authenticate", "token": person.token}).decode(),
        orjson.dumps({"type": "subscribe", "session_id": str(session)}).decode(),
    )
    return RoomSocket(
        port=server.port,
        path=_WS,
        opening=opening,
        answers=("ready", "subscribed"),
        room=room,
        message=orjson.dumps(message).decode() if writes else None,
    )


def _bare_room(server: Server, sockets: int) -> list[RoomSocket]:
    """The same without a word of greeting; what is said is as long as our event."""
    data = MESSAGE_EXAMPLE | {"content": _CONTENT, "client_id": f"{new_id()}-{NUMBER}"}
    session = MESSAGE_EXAMPLE["session_id"]
    event = {"type": "message.created", "session_id": session, "event_seq": 12345, "data": data}
    message = orjson.dumps(event).decode()
    return [RoomSocket(server.port, "/", message=message if index < WRITERS else None) for index in range(sockets)]


# -- rooms that nobody follows here --------------------------------------------------------------------------------


def _unheard(rooms: _Rooms, here: Server, there: Server, plan: Plan) -> list[Figure]:
    """What it costs `there` that people talk `here`. One socket in a quiet room is open there."""
    seconds = 0.5 if plan.short else 10.0
    used: dict[int, float] = {}
    with open_sockets([_socket(there, rooms.lonely, rooms.everybody[0])]):
        for count in (0, len(rooms.small) // 10, len(rooms.small)):
            sockets = [
                _socket(here, session, person, writes=person is people[0], room=index)
                for index, (session, people) in enumerate(rooms.small[:count])
                for person in people[:2]
            ]
            started, cpu = time.perf_counter(), cpu_seconds(there.pid)
            if sockets:
                run_room(RoomLoad(sockets, seconds, plan.warm_up_seconds, per_second=UNHEARD_MESSAGES))
            else:
                time.sleep(seconds)
            used[count] = (cpu_seconds(there.pid) - cpu) / (time.perf_counter() - started) * 1000
    shown = ", ".join(f"{number(cpu)} with {count}" for count, cpu in used.items() if count)
    return [
        Figure(
            name=f"{UNHEARD_MESSAGES} messages/s in rooms elsewhere",
            ours=f"{shown} rooms, ms of CPU a second",
            limit=f"without {number(used[0])}",
            judged=used[len(rooms.small)] - used[0],
            judged_as="added ms",
            goal=UNHEARD_GOAL,
        )
    ]


# -- memory --------------------------------------------------------------------------------------------------------


def _memory(api: Server, bare: Server, rooms: _Rooms) -> list[Figure]:
    ours = [
        _socket(api, session, person, room=index)
        for index, (session, people) in enumerate(rooms.small)
        for person in people
    ]
    limit = [RoomSocket(bare.port, "/") for _ in ours]
    grown = {server: _growth(server, sockets) for server, sockets in ((api, ours), (bare, limit))}
    return [
        Figure(
            "memory: 1,000 idle sockets",
            f"{number(grown[api])} MiB ({_PEOPLE_IN_SMALL_ROOM} in each room)",
            f"in memory {number(grown[bare])} MiB",
        )
    ]


def _growth(server: Server, sockets: Sequence[RoomSocket]) -> float:
    """MiB that a server grows by for each thousand sockets, after it has served a few."""
    with open_sockets(sockets[:_PEOPLE_IN_SMALL_ROOM]):
        time.sleep(_SETTLE_SECONDS)
    before, _ = memory_mib(server.pid)
    with open_sockets(sockets):
        time.sleep(_SETTLE_SECONDS)
        after, _ = memory_mib(server.pid)
    return (after - before) / len(sockets) * 1000


def _allow_open_files() -> None:
    """Servers and clients inherit the limit, and a socket is a file."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


# -- people and rooms ----------------------------------------------------------------------------------------------


async def _prepare(stack: Stack, scale: Scale) -> _Rooms:
    connection = await asyncpg.connect(stack.superuser_dsn())
    try:
        people = await seeding.add_people(connection, stack, scale.sockets)
        large, lonely, *small = [new_id() for _ in range(scale.small_rooms + 2)]
        rooms = _Rooms(
            large=large,
            everybody=people,
            small=[
                (session, [people[(number * 7 + index) % scale.sockets] for index in range(_PEOPLE_IN_SMALL_ROOM)])
                for number, session in enumerate(small)
            ],
            lonely=lonely,
        )
        for session, members in ((large, people), (lonely, people[:1]), *rooms.small):
            await seeding.add_room(connection, session, [member.id for member in members])
        return rooms
    finally:
        await connection.close()


def main() -> None:
    stop_on_signals()
    plan = plan_from_arguments(__doc__)
    with Stack() as stack:
        print_figures(Scale.of(plan).title, measure(stack, plan))


if __name__ == "__main__":
    main()
