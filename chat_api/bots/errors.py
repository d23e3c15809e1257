"""What can be wrong with a bot."""

from __future__ import annotations

from shared.problems import Forbidden, Problem


class BotNotFound(Problem):
    status = 404
    code = "bot-not-found"
    title = "Bot not found"
    detail = "There is no such bot, or it is not shared with you."


class NotBotOwner(Forbidden):
    code = "not-bot-owner"
    title = "Only the bot's owner may do this"
    detail = "You may use this bot, but only its owner may do this."


class ShareNotFound(Problem):
    status = 404
    code = "share-not-found"
    title = "Share not found"
    detail = "The bot is not shared with this user."


class OwnerNeedsNoShare(Problem):
    status = 409
    code = "owner-needs-no-share"
    title = "The bot is yours already"
    detail = "Its owner may always use a bot. Share it with somebody else."
