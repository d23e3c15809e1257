"""What can be wrong with a session."""

from __future__ import annotations

from shared.problems import Forbidden, Problem


class SessionNotFound(Problem):
    status = 404
    code = "session-not-found"
    title = "Session not found"
    detail = "There is no such session, or you do not take part in it."


class NotSessionOwner(Forbidden):
    code = "not-session-owner"
    title = "Only the owner may do this"
    detail = "You take part in this session, but only its owner may do this."


class SessionArchived(Problem):
    status = 409
    code = "session-archived"
    title = "The session is archived"
    detail = "Unarchive it to write to it again."


class RunActive(Problem):
    status = 409
    code = "run-active"
    title = "A reply is still being written"
    detail = "Wait for the run to end, or cancel it first."


class ParticipantNotFound(Problem):
    status = 404
    code = "participant-not-found"
    title = "Participant not found"
    detail = "This person does not take part in the session."


class OwnerCannotLeave(Problem):
    status = 409
    code = "owner-cannot-leave"
    title = "The owner cannot leave the session"
    detail = "Delete the session, or archive it."


class SessionFull(Problem):
    status = 409
    code = "session-full"
    title = "The session has as many participants as it may have"
    detail = "Remove somebody first."


class RelatedSessionNotFound(Problem):
    status = 404
    code = "related-session-not-found"
    title = "Related session not found"
    detail = "There is no such session to take context from, or it is not open to you."
