"""What can be wrong with a message."""

from __future__ import annotations

from shared.problems import Forbidden, Problem


class MessageNotFound(Problem):
    status = 404
    code = "message-not-found"
    title = "Message not found"
    detail = "There is no such message in this session, or you do not take part in it."


class NotYourMessage(Forbidden):
    code = "not-your-message"
    title = "Only its sender may do this"
    detail = "You may read this message, but only its sender may change it."


class MessageDeleted(Problem):
    status = 409
    code = "message-deleted"
    title = "The message is deleted"
    detail = "A deleted message stays as a tombstone and cannot be changed."


class TooManyReactions(Problem):
    status = 409
    code = "too-many-reactions"
    title = "The message has too many reactions"
    detail = "A message may have 20 different reactions. Join one of them, or take one of yours back first."


class MessageStreaming(Problem):
    status = 409
    code = "message-streaming"
    title = "The message is still being written"
    detail = "Wait for its run to end, or cancel it first."
