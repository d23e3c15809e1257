"""What search can refuse."""

from __future__ import annotations

from shared.problems import Problem


class SemanticSearchOff(Problem):
    status = 409
    code = "semantic-search-off"
    title = "Messages are not embedded here"
    detail = "Search by meaning is switched off. Use `mode=text`."
