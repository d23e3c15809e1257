"""What can go wrong at the OpenAI-compatible door besides what a completion says itself."""

from __future__ import annotations

from shared.problems import Problem


class TooManyCompletions(Problem):
    """Said before the agent is asked, so that trying again is safe."""

    status = 503
    code = "too-many-completions"
    title = "Too many completions at once"
    detail = "This process answers as many completions as it can. Nothing was begun; try again."
    retry_after = 2


class ModelTimedOut(Problem):
    """Of the agent, passed on: named here for the document of the route that passes it on."""

    status = 504
    code = "model-timeout"
    title = "The model took too long"


class KnowledgeChanged(Problem):
    """Of the agent, passed on like the one above."""

    status = 409
    code = "embedding-model-changed"
    title = "The embedding model was changed"
