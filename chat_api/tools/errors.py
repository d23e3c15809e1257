"""What can be wrong with a decision on a tool."""

from __future__ import annotations

from shared.problems import Forbidden, Problem, ValidationFailed


class ToolExecutionNotFound(Problem):
    status = 404
    code = "tool-execution-not-found"
    title = "Tool execution not found"
    detail = "There is no such tool execution, or you do not take part in its session."


class DecisionNotYours(Forbidden):
    code = "decision-not-yours"
    title = "Somebody else decides on this"
    detail = "The session's owner decides, and whoever sent the message that is being answered."


class AlreadyDecided(Problem):
    status = 409
    code = "already-decided"
    title = "This does not wait for a decision"
    detail = "It was decided before, its run has ended, or nobody had to be asked. Nothing was changed."


class ApprovalExpired(Problem):
    """What a decision is refused with, and what the run that waited for it fails with."""

    status = 409
    code = "approval-expired"
    title = "Nobody decided in time"
    detail = "Nobody decided in time, so it was not run. Send the message again, or regenerate the reply."


class ToolArgumentsInvalid(ValidationFailed):
    code = "tool-arguments-invalid"
    title = "The tool does not take these arguments"
    detail = "See `errors` for what is wrong and where. Nothing was decided."
