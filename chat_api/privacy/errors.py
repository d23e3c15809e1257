"""What can be in the way of an export."""

from __future__ import annotations

from shared.problems import ServiceUnavailable


class ExportsBusy(ServiceUnavailable):
    code = "exports-busy"
    title = "Too many accounts are being exported"
    detail = "A few are exported at a time. Try again in a minute."
    retry_after = 60
