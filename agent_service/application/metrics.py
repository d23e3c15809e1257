"""What turns leave in `/metrics`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from agent_service.ports.tools import ToolSpec
from shared.contracts.chat import Provider, Usage
from shared.contracts.tools import ToolOutcome
from shared.telemetry import counter, histogram


class TurnMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._turns = counter(registry, "agent_turns", "Turns by how they ended", "provider", "outcome")
        self._first_token = histogram(
            registry, "agent_time_to_first_token_seconds", "From the call to the first text", "provider"
        )
        self._duration = histogram(registry, "agent_turn_duration_seconds", "From the call to its end", "provider")
        self._tokens = counter(registry, "agent_tokens", "Tokens as providers count them", "provider", "kind")
        self._errors = counter(registry, "agent_model_errors", "Failed calls to models", "provider", "code")
        self._retries = counter(registry, "agent_model_retries", "Calls made again", "provider")
        self._retrieval = histogram(registry, "agent_turn_retrieval_seconds", "What a turn waited for its passages")
        self._retrieval_errors = counter(registry, "agent_turn_retrieval_errors", "Turns whose search failed", "code")

    def completed(self, provider: Provider, seconds: float, first_token: float | None, usage: Usage | None) -> None:
        self._turns.labels(provider.value, "completed").inc()
        self._duration.labels(provider.value).observe(seconds)
        if first_token is not None:
            self._first_token.labels(provider.value).observe(first_token)
        self._count_tokens(provider, usage)

    def paused(self, provider: Provider, usage: Usage | None) -> None:
        """The turn waits for decisions or results. How long it took says nothing about the model."""
        self._turns.labels(provider.value, "paused").inc()
        self._count_tokens(provider, usage)

    def failed(self, provider: Provider) -> None:
        self._turns.labels(provider.value, "failed").inc()

    def cancelled(self, provider: Provider) -> None:
        self._turns.labels(provider.value, "cancelled").inc()

    def call_failed(self, provider: Provider, code: str) -> None:
        self._errors.labels(provider.value, code).inc()

    def retried(self, provider: Provider) -> None:
        self._retries.labels(provider.value).inc()

    def retrieved(self, seconds: float) -> None:
        self._retrieval.observe(seconds)

    def retrieval_failed(self, code: str) -> None:
        self._retrieval_errors.labels(code).inc()

    def _count_tokens(self, provider: Provider, usage: Usage | None) -> None:
        if usage is not None:
            self._tokens.labels(provider.value, "prompt").inc(usage.prompt_tokens)
            self._tokens.labels(provider.value, "completion").inc(usage.completion_tokens)


class ToolMetrics:
    """Labels are names of the catalog, never what a model wrote."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = counter(
            registry, "agent_tool_calls", "Calls of tools by how they ended", "tool", "source", "outcome"
        )
        self._seconds = histogram(
            registry, "agent_tool_seconds", "How long calls took, with all attempts", "tool", "source"
        )
        self._left_alone = counter(
            registry, "agent_tools_left_alone", "Calls that heeded no cancellation", "tool", "source"
        )

    def ran(self, spec: ToolSpec, outcome: ToolOutcome, seconds: float) -> None:
        self._calls.labels(spec.name, spec.source, outcome.value).inc()
        self._seconds.labels(spec.name, spec.source).observe(seconds)

    def left_alone(self, spec: ToolSpec) -> None:
        self._left_alone.labels(spec.name, spec.source).inc()
