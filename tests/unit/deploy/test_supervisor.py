"""Restarts: when, how often, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.local.errors import CannotStart
from deploy.local.supervisor import Supervisor, delay_before_start, follow


@dataclass
class ScriptedChild:
    """A child whose fate the test decides."""

    name: str
    journal: list[str] = field(default_factory=list)
    log_path: Path = Path("child.log")
    code: int | None = None
    answering: bool = True
    starts_fail: int = 0

    def start(self) -> None:
        self.journal.append(f"start {self.name}")
        if self.starts_fail:
            self.starts_fail -= 1
            raise CannotStart(f"{self.name} has no room")
        self.code = None

    def poll(self) -> int | None:
        return self.code

    def answers(self) -> bool:
        return self.answering

    def ask_to_stop(self) -> None:
        self.journal.append(f"ask {self.name}")

    def stop(self) -> None:
        self.journal.append(f"stop {self.name}")


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(said: list[str], time: Time) -> Supervisor:
    return Supervisor(said.append, clock=time)


def test_delays_double_up_to_five_seconds() -> None:
    assert [delay_before_start(starts) for starts in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_a_child_that_runs_is_left_alone(supervisor: Supervisor) -> None:
    child = ScriptedChild("api")
    supervisor.add(child)
    assert supervisor.tend() == 1.0
    assert child.journal == ["start api"]


def test_a_child_that_died_starts_again_after_its_delay(supervisor: Supervisor, said: list[str], time: Time) -> None:
    child = ScriptedChild("api")
    supervisor.add(child)
    supervisor.tend()
    child.code = -9
    assert supervisor.tend() == pytest.approx(0.2)
    assert said == ["api ended (SIGKILL); starting api again in 0.2 s"]
    time.now += 0.19
    supervisor.tend()
    assert child.journal == ["start api"]
    time.now += 0.02
    supervisor.tend()
    assert child.journal == ["start api", "start api"]


def test_a_child_that_had_settled_never_counts_towards_giving_up(supervisor: Supervisor, time: Time) -> None:
    child = ScriptedChild("api")
    supervisor.add(child)
    for _ in range(20):
        supervisor.tend()
        child.code = 1
        supervisor.tend()
        time.now += 0.21
        supervisor.tend()
    assert child.journal == ["start api"] * 21


def test_five_ends_before_the_first_answer_are_too_many(supervisor: Supervisor, said: list[str], time: Time) -> None:
    child = ScriptedChild("worker", answering=False, log_path=Path("logs/worker.log"))
    supervisor.add(child)
    delays = []
    for _ in range(4):
        child.code = 2
        delays.append(round(supervisor.tend(), 3))
        time.now += 10
        supervisor.tend()
    child.code = 2
    with pytest.raises(CannotStart) as raised:
        supervisor.tend()
    assert str(raised.value) == "worker failed 5 times in a row: worker ended (exit code 2); see logs/worker.log"
    assert delays == [0.2, 0.4, 0.8, 1.6]
    assert len(said) == 4


def test_a_store_that_cannot_start_again_is_tried_again(supervisor: Supervisor, said: list[str], time: Time) -> None:
    child = ScriptedChild("postgres")
    supervisor.add(child)
    supervisor.tend()
    child.code, child.starts_fail = -9, 2
    for _ in range(6):
        supervisor.tend()
        time.now += 1
    assert child.poll() is None
    assert said == [
        "postgres ended (SIGKILL); starting postgres again in 0.2 s",
        "postgres has no room; starting postgres again in 0.4 s",
        "postgres has no room; starting postgres again in 0.8 s",
    ]


def test_groups_stop_in_the_opposite_order_and_together_within(supervisor: Supervisor) -> None:
    journal: list[str] = []
    supervisor.add(ScriptedChild("postgres", journal))
    supervisor.add(ScriptedChild("api", journal), ScriptedChild("worker", journal))
    journal.clear()
    supervisor.stop()
    assert journal == ["ask api", "ask worker", "stop api", "stop worker", "ask postgres", "stop postgres"]
    supervisor.stop()
    assert len(journal) == 6


def test_a_start_that_fails_leaves_the_others_to_be_stopped(supervisor: Supervisor) -> None:
    journal: list[str] = []
    supervisor.add(ScriptedChild("valkey", journal))
    with pytest.raises(CannotStart, match="no room"):
        supervisor.add(ScriptedChild("postgres", journal, starts_fail=1))
    supervisor.stop()
    assert "stop valkey" in journal


def test_followed_logs_show_whole_new_lines(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    log.write_text("old\n")
    follower = follow([log, tmp_path / "later.log"])
    with log.open("a") as file:
        file.write("new\nhal")
        file.flush()
        assert follower.lines() == ["api      | new"]
        file.write("f\n")
    (tmp_path / "later.log").write_text("first\n")
    assert follower.lines() == ["api      | half", "later    | first"]
    assert follower.lines() == []
