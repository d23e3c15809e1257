"""What can be wrong with a socket or a frame."""

from __future__ import annotations

from shared.problems import Forbidden, NotAuthenticated, Problem


class MalformedFrame(Problem):
    status = 400
    code = "malformed-frame"
    title = "The frame could not be read"
    detail = "Send one JSON object in a text frame."


class OriginNotAllowed(Forbidden):
    code = "origin-not-allowed"
    title = "Pages of this origin may not connect"
    detail = "Have the operator add the page's origin to COLLOQUY_CORS_ORIGINS."


class NotAuthenticatedInTime(NotAuthenticated):
    def __init__(self, seconds: float) -> None:
        super().__init__(f'Send {{"type": "authenticate", "token": …}} within {seconds:g} s, or connect with a ticket.')


class AlreadyAuthenticated(Problem):
    status = 409
    code = "already-authenticated"
    title = "The socket is authenticated"
    detail = "Open another socket to speak as somebody else."


class NotSubscribed(Problem):
    status = 409
    code = "not-subscribed"
    title = "The session is not followed"
    detail = "Subscribe to the session first."


class BoundToSession(Problem):
    status = 409
    code = "bound-to-session"
    title = "This socket is for one session"
    detail = "Connect to /api/v1/ws to follow several sessions."


class TooManySubscriptions(Problem):
    status = 409
    code = "too-many-subscriptions"
    title = "The socket follows too many sessions"
    detail = "Unsubscribe from some, or open another socket."


class TooManyFrames(Problem):
    status = 429
    code = "too-many-frames"
    title = "Too many frames"
    detail = "Send frames more slowly. The frame was not looked at."
    retry_after = 1


class TooManySockets(Problem):
    status = 429
    code = "too-many-sockets"
    title = "Too many open sockets"
    detail = "Close some of your sockets first."
    retry_after = 5
