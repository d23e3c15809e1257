"""What can be wrong with an import."""

from __future__ import annotations

from collections.abc import Sequence

from shared.problems import FieldError, PayloadTooLarge, Problem, ServiceUnavailable, ValidationFailed

_EXPECTED = "Send a session that was exported as JSON, or ChatGPT's `conversations.json`."
_NOTHING = "Nothing was imported."


class InvalidImport(ValidationFailed):
    """`place` leads to what is wrong: names of the format and positions, nothing that is only in the file."""

    code = "invalid-import"
    title = "The file cannot be imported"
    detail = f"{_EXPECTED} {_NOTHING}"

    def __init__(self, reason: str | None = None, *, place: Sequence[str | int] = (), kind: str = "import") -> None:
        reason = reason or _EXPECTED
        super().__init__(
            f"{reason.rstrip('.')}. {_NOTHING}",
            errors=[FieldError(loc=["file", *place], msg=reason, type=kind)],
        )


class ImportTooLarge(PayloadTooLarge):
    code = "import-too-large"
    title = "The file is too large to import"
    detail = "A file that is imported may not be this large."

    @classmethod
    def named(cls, name: str, limit: int) -> ImportTooLarge:
        return cls(f"{name!r} is larger than {limit} bytes, which is the most that an import may have.")


class ImportsBusy(ServiceUnavailable):
    code = "imports-busy"
    title = "Other imports come first"
    detail = "Others are importing now. Nothing was imported; try again."
    retry_after = 10


class ImportInProgress(Problem):
    """It may be the same file, sent again by a client that had no answer yet."""

    status = 409
    code = "import-in-progress"
    title = "Another import of yours is being stored"
    detail = (
        "An import that you began earlier is still being stored, and of this file nothing was imported. Send it again"
        " after that; what both have is imported once."
    )
    retry_after = 10
