"""How a turn fails. The same problem is an `error` event in a stream and the answer's status in JSON mode.

Details say what happened and what to do, never what the provider wrote: its text may quote the prompt or a key.
"""

from __future__ import annotations

import math
from typing import ClassVar

from shared.problems import Problem


class ModelProblem(Problem):
    """A failure of the model, or of the way to it.

    `retryable` holds before the first token only. `asked_to_wait` is what the provider asked for, in seconds.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, *, asked_to_wait: float | None = None) -> None:
        self.asked_to_wait = asked_to_wait
        super().__init__(detail, retry_after=None if asked_to_wait is None else max(1, math.ceil(asked_to_wait)))


class ModelUnavailable(ModelProblem):
    status = 503
    code = "model-unavailable"
    title = "The model is unavailable"
    detail = "The model cannot be reached, or broke off. Try again."
    retry_after = 5
    retryable = True


class ModelTimeout(ModelProblem):
    status = 504
    code = "model-timeout"
    title = "The model took too long"
    detail = "The model did not answer in time. Try again."
    retry_after = 5


class ModelRejected(ModelProblem):
    status = 502
    code = "model-rejected"
    title = "The model's provider refused the call"
    detail = "The provider refused the call: its key or its configuration is wrong."
    retry_after = 60  # somebody has to mend it first


class ModelRateLimited(ModelProblem):
    status = 429
    code = "model-rate-limited"
    title = "The model's provider limits the rate"
    detail = "The provider takes no more calls for now."
    retry_after = 10
    retryable = True


class ModelNotConfigured(ModelProblem):
    status = 422
    code = "model-not-configured"
    title = "The provider is not configured"
    detail = "This installation has no key or no weights for that provider. `GET /v1/providers` shows what it has."


class ModelNotFound(ModelProblem):
    status = 422
    code = "model-not-found"
    title = "The provider has no such model"
    detail = "The provider knows no model of that name."


class ContextTooLong(ModelProblem):
    status = 422
    code = "context-too-long"
    title = "The conversation is too long for the model"
    detail = "The system prompt and the messages exceed what the model can read."


class AgentRestarting(ModelProblem):
    status = 503
    code = "agent-restarting"
    title = "The agent is restarting"
    detail = "The agent is shutting down. Try again in a moment."
    retry_after = 2


class ChatApiUnavailable(Problem):
    status = 503
    code = "chat-api-unavailable"
    title = "The chat API is unavailable"
    detail = "API keys are checked by the chat API, which does not answer. Try again."
    retry_after = 2
