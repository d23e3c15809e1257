"""What can be wrong with a run, or with sending a message."""

from __future__ import annotations

from shared.problems import Problem


class RunNotFound(Problem):
    status = 404
    code = "run-not-found"
    title = "Run not found"
    detail = "There is no such run, or you do not take part in its session."


class RunFinished(Problem):
    status = 409
    code = "run-finished"
    title = "The run has ended"
    detail = "A run that has ended cannot be cancelled."


class RunInterrupted(Problem):
    """What a run failed with when its process died after some of the reply was out."""

    status = 503
    code = "run-interrupted"
    title = "The reply was interrupted"
    detail = "The server stopped in the middle of the reply. What it had said is kept; regenerate it to try again."


class TooManyMessages(Problem):
    status = 429
    code = "too-many-messages"
    title = "Too many messages"
    detail = "You are sending faster than one person may. Nothing was stored; wait and send it again."
    retry_after = 1


class RunTimedOut(Problem):
    status = 504
    code = "run-timed-out"
    title = "The run took too long"
    detail = "The reply was not finished in time. What it had said is kept; regenerate it to try again."


class RunBroken(Problem):
    """A fault of ours while a run was executed."""

    status = 500
    code = "run-broken"
    title = "The run failed on our side"
    detail = "Something went wrong on our side. The request id finds it in our logs; regenerate to try again."


class OutcomeUnknown(Problem):
    """What a call of a tool failed with when nobody heard how it ended, and it must not be run twice."""

    status = 502
    code = "tool-outcome-unknown"
    title = "Nobody knows how the call ended"
    detail = "The connection to the tool was lost while it ran. It may have done its work; it was not run again."


class QuestionDeleted(Problem):
    """What a run fails with when the message it should answer is deleted before its turn comes."""

    status = 409
    code = "question-deleted"
    title = "The message is deleted"
    detail = "The message was deleted before the assistant came to answer it."


class BotUnavailable(Problem):
    """What a run fails with when its session's owner may not, or no longer, use the session's bot."""

    status = 409
    code = "bot-unavailable"
    title = "The session's bot is not available"
    detail = (
        "The bot was deleted, or is no longer shared with the session's owner. Give the session another `bot_id`, or"
        " null, and regenerate."
    )


class DocumentsBeingDeleted(Problem):
    """So many of a bot's documents wait to be removed that a search cannot be told to leave them all out."""

    status = 503
    code = "documents-being-deleted"
    title = "The bot's documents are being deleted"
    detail = "More than 1,000 documents of the bot are being deleted. Wait until that is done, then regenerate."
    retry_after = 10


class Restarting(Problem):
    """Only the waiting ends: the message is stored and its run goes on elsewhere."""

    status = 503
    code = "restarting"
    title = "The server is restarting"
    detail = "Your message is stored. Send it again with the same client_id to wait for the same reply."
    retry_after = 1
