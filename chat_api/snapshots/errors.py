"""What can be wrong with a snapshot."""

from __future__ import annotations

from shared.problems import Problem, ServiceUnavailable


class SnapshotNotFound(Problem):
    status = 404
    code = "snapshot-not-found"
    title = "Snapshot not found"
    detail = "There is no such snapshot, or you do not take part in its session."


class TooManySnapshots(Problem):
    status = 409
    code = "too-many-snapshots"
    title = "The session has as many snapshots as it may have"
    detail = "Delete one first."


class SessionTooLong(Problem):
    status = 409
    code = "session-too-long"
    title = "The session is too long for a snapshot"
    detail = "It has more messages than a snapshot may have. Export it instead."


class CopiesBusy(ServiceUnavailable):
    code = "copies-busy"
    title = "Other copies come first"
    detail = "Others take or restore snapshots now. Nothing was changed; try again."
    retry_after = 10
