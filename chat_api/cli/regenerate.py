"""`colloquy embeddings regenerate`: calls the agent, step after step, until the index is the configured model's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import click

from chat_api.cli.progress import progress
from chat_api.clients.collections import Collections, HttpCollections
from chat_api.clients.connection import AgentBrokeOff, AgentRefused, AgentUnavailable
from chat_api.config import ApiSettings
from shared.contracts.knowledge import RegenerationStep

_TRIES = 10
_PAUSE_SECONDS = 2.0
_GOES_ON = "run this again to go on where it was"


class CannotRegenerate(Exception):
    """The message says why in a line."""


class Regeneration:
    """Every step is kept by the agent, so one that fails is asked for again, and stopping costs nothing."""

    def __init__(
        self, collections: Collections, agent_url: str, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._collections = collections
        self._agent_url = agent_url
        self._pause = pause

    async def first(self) -> RegenerationStep:
        """Raises `CannotRegenerate` at once when the agent is not there."""
        try:
            return await self._collections.regenerate()
        except (AgentUnavailable, AgentBrokeOff):
            raise CannotRegenerate(f"the agent at {self._agent_url} does not answer") from None
        except AgentRefused as refused:
            raise CannotRegenerate(f"the agent refuses: {refused.problem.detail}") from None

    async def next(self) -> RegenerationStep:
        """Raises `CannotRegenerate` when the agent stays away, or refuses."""
        for _ in range(_TRIES):
            try:
                return await self._collections.regenerate()
            except (AgentUnavailable, AgentBrokeOff):
                await self._pause(_PAUSE_SECONDS)
            except AgentRefused as refused:
                if refused.problem.status < 500 and refused.problem.status != 429:
                    raise CannotRegenerate(f"the agent refuses: {refused.problem.detail}") from None
                await self._pause(_PAUSE_SECONDS)
        raise CannotRegenerate(f"the agent at {self._agent_url} went away; {_GOES_ON}")


def regenerate(settings: ApiSettings) -> None:
    """Run it for a person at a terminal. Raises `CannotRegenerate`."""
    try:
        asyncio.run(_run(settings))
    except KeyboardInterrupt:
        raise CannotRegenerate(f"stopped; {_GOES_ON}") from None


async def _run(settings: ApiSettings) -> None:
    collections = HttpCollections(settings)
    try:
        await follow(Regeneration(collections, settings.agent_base_url))
    finally:
        await collections.close()


async def follow(regeneration: Regeneration) -> None:
    """Show a progress bar until all is done. Its length follows what is uploaded or deleted meanwhile."""
    step = await regeneration.first()
    if step.done < step.total:
        with progress(f"passages to {step.embedding_model}", step.total) as bar:
            bar.update(step.done)
            while step.done < step.total:
                before, step = step, await regeneration.next()
                bar.set_total(step.total)
                bar.update(step.done - before.done)
    click.echo(f"all {step.total} passages have vectors of {step.embedding_model}")
