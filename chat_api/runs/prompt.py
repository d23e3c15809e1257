"""What the model is shown: the conversation up to the message that it answers."""

from __future__ import annotations

from collections.abc import Sequence

from chat_api.bots.tools import effective_tools
from chat_api.runs.history import Exchange
from chat_api.runs.related import Quotation
from chat_api.runs.repository import Claim
from chat_api.runs.session_bot import Knowledge, SessionBot, joined_prompt
from chat_api.sessions.schemas import RelatedContext
from shared.contracts.chat import ChatMessage, ChatRequest, ChatRole, ChatUser, ModelChoice, Provider
from shared.contracts.knowledge import RetrievalOptions
from shared.contracts.tools import ApprovalMode


def chat_request(
    claim: Claim,
    history: Sequence[Exchange],
    *,
    limit: int,
    knowledge: Knowledge | None = None,
    related: RelatedContext | None = None,
) -> ChatRequest:
    """The turn as the agent wants it, with the last `limit` messages at most.

    With `knowledge`, the agent looks into the documents of the claim's bot, first or when the model wants to. What is
    `related` comes before the messages, as a quotation.
    """
    messages: list[ChatMessage] = []
    # Those who left are still heard in what is shown.
    is_named = claim.several_people or len({exchange.username for exchange in history}) > 1
    for exchange in history:
        name = exchange.username if is_named else None
        images = list(exchange.images) or None
        messages.append(ChatMessage(role=ChatRole.USER, content=exchange.content, name=name, images=images))
        if exchange.answer is not None:
            messages.append(ChatMessage(role=ChatRole.ASSISTANT, content=exchange.answer))
    messages = messages[-limit:]
    system_prompt = joined_prompt(claim.system_prompt, claim.bot)
    if related is not None and related.text:
        quotation = Quotation(related)
        # First, so that a model with little room is shown the conversation rather than this.
        messages.insert(0, ChatMessage(role=ChatRole.USER, content=quotation.message))
        system_prompt = "\n\n".join(filter(None, (system_prompt, quotation.explanation)))
    grounded = claim.bot if knowledge is not None and knowledge.has_documents else None
    return ChatRequest(
        run_id=claim.lease.run_id,
        model=ModelChoice(
            provider=None if claim.provider is None else Provider(claim.provider),
            name=claim.model,
            temperature=claim.settings.get("temperature"),
            max_tokens=claim.settings.get("max_tokens"),
        ),
        system_prompt=system_prompt,
        messages=messages,
        collections=[] if grounded is None else [grounded.id],
        retrieval=_retrieval(grounded, knowledge),
        ground=grounded is None or grounded.is_grounded,
        tools=effective_tools(
            claim.settings.get("tools"), None if claim.bot is None else claim.bot.configuration, grounded is not None
        ),
        # Every call comes back before it is run: what is on record is decided here, and recorded first.
        approval_mode=ApprovalMode.ALWAYS,
        user=None if claim.asked_by is None else ChatUser(id=claim.asked_by, session_id=claim.lease.session_id),
    )


def _retrieval(bot: SessionBot | None, knowledge: Knowledge | None) -> RetrievalOptions:
    if bot is None or knowledge is None:
        return RetrievalOptions()
    wanted = bot.configuration.retrieval
    return RetrievalOptions(
        mode=wanted.mode, top_k=wanted.top_k, min_score=wanted.min_score, exclude_documents=knowledge.deleted
    )
