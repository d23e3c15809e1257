"""What can go wrong when figures are asked for."""

from __future__ import annotations

from shared.problems import Problem

MAX_DAYS = 366


class InvalidPeriod(Problem):
    status = 422
    code = "invalid-period"
    title = "No such period"
    detail = f"`from` must not be after `to`, and there are at most {MAX_DAYS} days between them."
