"""What the model is shown: people's names, the history, and a linked session's words."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from uuid import UUID

from chat_api.runs.history import Exchange
from chat_api.runs.prompt import chat_request
from chat_api.runs.related import Quotation
from chat_api.runs.repository import Claim, Lease
from chat_api.sessions.schemas import RelatedContext
from shared.contracts.chat import ChatRole

CLAIM = Claim(
    lease=Lease(UUID(int=1), UUID(int=2), 1, "me"),
    trigger_message_id=UUID(int=3),
    reply_message_id=UUID(int=4),
    asked_by=UUID(int=5),
    requested_by=None,
    waited=False,
    provider=None,
    model=None,
    system_prompt=None,
    settings={},
    bot_id=None,
    bot=None,
    related_session_id=UUID(int=6),
    several_people=False,
    cancelled=False,
    expired=False,
    resumes=False,
    stream_position=None,
    said_characters=0,
    usage=None,
    run=b"{}",
    reply=b"{}",
)
HISTORY = [Exchange("Hello", "ann", "Good day"), Exchange("Who am I?", "bob", None)]


def related(text: str) -> RelatedContext:
    return RelatedContext(session_id=UUID(int=6), title="The harbour", messages=[], text=text)


def test_in_a_room_the_model_knows_who_said_what() -> None:
    alone = chat_request(CLAIM, HISTORY[:1], limit=10)
    together = chat_request(replace(CLAIM, several_people=True), HISTORY[:1], limit=10)

    assert [message.name for message in alone.messages] == [None, None]
    assert [message.name for message in together.messages] == ["ann", None]
    assert [message.content for message in together.messages] == ["Hello", "Good day"]


def test_when_the_others_have_left_it_still_does() -> None:
    request = chat_request(replace(CLAIM, several_people=False), HISTORY, limit=10)

    assert [message.name for message in request.messages] == ["ann", None, "bob"]


def test_nothing_related_adds_nothing() -> None:
    plain = chat_request(CLAIM, HISTORY, limit=10)
    assert chat_request(CLAIM, HISTORY, limit=10, related=None) == plain
    assert chat_request(CLAIM, HISTORY, limit=10, related=related("")) == plain
    assert plain.system_prompt is None


def test_the_quotation_comes_first_and_is_none_of_the_history() -> None:
    request = chat_request(CLAIM, HISTORY, limit=1, related=related("carl: It closes at ten."))

    assert [message.role for message in request.messages] == [ChatRole.USER, ChatRole.USER]
    assert "carl: It closes at ten." in request.messages[0].content
    assert request.messages[1].content == "Who am I?"
    assert request.system_prompt is not None
    assert "carl" not in request.system_prompt


def test_the_explanation_comes_after_the_sessions_own_prompt() -> None:
    request = chat_request(replace(CLAIM, system_prompt="Be brief."), HISTORY, limit=9, related=related("carl: Hi"))
    assert request.system_prompt is not None
    assert request.system_prompt.startswith("Be brief.\n\nA message that begins with <related-")


def test_the_mark_occurs_nowhere_in_what_it_encloses() -> None:
    letters = cycle("bbbbbbbbcccccccc")
    quotation = Quotation(related("carl: BBBBBBBB"), lambda _: next(letters))
    assert quotation.message == "<related-cccccccc>\ncarl: BBBBBBBB\n</related-cccccccc>"
    assert "<related-cccccccc>" in quotation.explanation
    assert "</related-cccccccc>" in quotation.explanation
