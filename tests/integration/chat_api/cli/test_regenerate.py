"""Changing the embedding model from a terminal: step after step, and one line where it cannot."""

from __future__ import annotations

import asyncio

import pytest
from click.testing import CliRunner

from chat_api.cli.main import colloquy
from chat_api.cli.regenerate import CannotRegenerate, Regeneration, follow
from chat_api.clients.connection import AgentUnavailable
from deploy.local.ports import free_port
from shared.contracts.knowledge import RegenerationStep
from shared.problems import Problem
from tests.factories.document_jobs import ScriptedIndex, refusal

MODEL = "openai:text-embedding-3-small:1536"


class Steps(ScriptedIndex):
    """Answers with (done, total), or raises."""

    def __init__(self, *answers: tuple[int, int] | Problem) -> None:
        super().__init__()
        self._answers = list(answers)
        self.calls = 0

    async def regenerate(self) -> RegenerationStep:
        self.calls += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Problem):
            raise answer
        return RegenerationStep(done=answer[0], total=answer[1], embedding_model=MODEL)


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


async def regenerated(*answers: tuple[int, int] | Problem) -> Steps:
    steps = Steps(*answers)
    await follow(Regeneration(steps, "http://agent.test", pause=at_once))
    return steps


async def test_it_steps_until_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    steps = await regenerated((10, 40), (25, 40), (38, 42), (42, 42))
    assert steps.calls == 4
    assert capsys.readouterr().out.splitlines()[-1] == f"all 42 passages have vectors of {MODEL}"


async def test_what_is_complete_already_takes_one_step() -> None:
    assert (await regenerated((7, 7))).calls == 1


async def test_an_index_without_a_passage_is_complete() -> None:
    assert (await regenerated((0, 0))).calls == 1


async def test_an_agent_that_restarts_in_between_is_waited_for() -> None:
    away = AgentUnavailable()
    steps = await regenerated((10, 40), away, away, refusal(503, "index-unavailable"), (40, 40))
    assert steps.calls == 5


async def test_an_agent_that_stays_away_ends_it_and_nothing_is_lost() -> None:
    with pytest.raises(CannotRegenerate, match="run this again to go on where it was"):
        await regenerated((10, 40), AgentUnavailable())


@pytest.mark.parametrize("answers", [[refusal(409, "no", "Not now.")], [(1, 2), refusal(409, "no", "Not now.")]])
async def test_a_refusal_ends_it_with_the_agents_words(answers: list[tuple[int, int] | Problem]) -> None:
    with pytest.raises(CannotRegenerate, match=r"the agent refuses: Not now\."):
        await regenerated(*answers)


async def test_ctrl_c_goes_through() -> None:
    class Hanging(Steps):
        def __init__(self, *answers: tuple[int, int] | Problem) -> None:
            super().__init__(*answers)
            self.hangs = asyncio.Event()

        async def regenerate(self) -> RegenerationStep:
            if self.calls:
                self.hangs.set()
                await asyncio.Event().wait()
            return await super().regenerate()

    steps = Hanging((1, 2))
    task = asyncio.create_task(follow(Regeneration(steps, "http://agent.test", pause=at_once)))
    await asyncio.wait_for(steps.hangs.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_an_agent_that_is_not_there_is_one_line() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = CliRunner().invoke(colloquy, ["embeddings", "regenerate"], env={"COLLOQUY_AGENT_URL": url})
    assert (done.exit_code, done.output) == (1, f"Error: the agent at {url} does not answer\n")
