"""What a plan does not allow."""

from __future__ import annotations

from shared.problems import Problem


class QuotaExceeded(Problem):
    """Something by the day is used up: it is there again when the day is over."""

    status = 429
    code = "quota-exceeded"
    title = "The quota of your plan is used up"
    detail = "You have used what your plan allows for today. Nothing was stored; the next day begins at 00:00 UTC."
    retry_after = 3600

    @classmethod
    def of(cls, what: str, limit: int, resets_in: int) -> QuotaExceeded:
        """`what` is counted by the day; `resets_in` is in seconds."""
        detail = f"Your plan allows {limit} {what} a day, and they are used up. The next day begins at 00:00 UTC."
        return cls(detail, retry_after=max(1, resets_in))


class DocumentQuotaExceeded(Problem):
    status = 409
    code = "document-quota-exceeded"
    title = "Your plan allows no more documents"
    detail = "Delete documents that you do not need, or take a larger plan. Nothing was stored."


class StorageQuotaExceeded(Problem):
    status = 409
    code = "storage-quota-exceeded"
    title = "Your plan allows no more storage"
    detail = "Delete documents or attachments that you do not need, or take a larger plan. Nothing was stored."
