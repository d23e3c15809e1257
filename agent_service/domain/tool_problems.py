"""How calls of tools go wrong. The same problem stands in an event, and answers whoever runs a tool by itself."""

from __future__ import annotations

from shared.problems import Problem


class ToolNotFound(Problem):
    status = 404
    code = "tool-not-found"
    title = "There is no such tool"
    detail = "There is no tool of that name, or it is not available now. `GET /v1/tools` shows what there is."


class ToolArgumentsInvalid(Problem):
    status = 422
    code = "tool-arguments-invalid"
    title = "The arguments do not fit the tool"
    detail = "The arguments do not fit the tool. See `errors` for what is wrong and where."


class ToolFailure(Problem):
    status = 502
    code = "tool-failed"
    title = "The tool failed"
    detail = "The tool broke off in the middle of its work. This is a defect of the tool."


class ToolTimedOut(Problem):
    status = 504
    code = "tool-timed-out"
    title = "The tool took too long"
    detail = "The tool took too long and was stopped."


class ToolOutcomeUnknown(Problem):
    status = 502
    code = "tool-outcome-unknown"
    title = "Nobody knows whether the tool did its work"
    detail = "The tool broke off. It may have done its work nevertheless, so it was not run again."


class DecisionWithoutCall(Problem):
    status = 422
    code = "decision-without-call"
    title = "There is no such call to decide on"
    detail = "Decide on calls of the last message of the assistant that have no result yet."


class ToolApprovalRequired(Problem):
    status = 403
    code = "approval-required"
    title = "Somebody has to approve this"
    detail = "The tool is risky. Ask a person, and say `approved` when they agreed to exactly this call."
