"""What of a long conversation the small model gets to read."""

from __future__ import annotations

from agent_service.adapters.local_chat import estimated_tokens, newest_within
from agent_service.adapters.local_embedder import batches
from agent_service.domain.turn import Line
from shared.contracts.chat import ChatRole


def line(content: str, role: ChatRole = ChatRole.USER) -> Line:
    return Line(role, content)


def test_a_short_conversation_is_read_whole() -> None:
    lines = [line("a"), line("b", ChatRole.ASSISTANT), line("c")]
    assert newest_within(lines, 400) == tuple(lines)


def test_the_oldest_are_left_out_first() -> None:
    lines = [line(f"{number:04d}" * 20) for number in range(20)]
    kept = newest_within(lines, 100)
    assert 0 < len(kept) < 20
    assert kept == tuple(lines[-len(kept) :])


def test_the_last_message_stays_even_where_it_does_not_fit() -> None:
    assert newest_within([line("old"), line("x" * 4000)], 100) == (line("x" * 4000),)


def test_no_answer_is_kept_without_its_question() -> None:
    lines = [line("x" * 400), line("y" * 40, ChatRole.ASSISTANT), line("z" * 40)]
    assert newest_within(lines, 60) == (lines[-1],)


def test_other_scripts_take_more_tokens() -> None:
    assert estimated_tokens("会話会話") > estimated_tokens("abcd")


def test_embedding_batches_hold_like_lengths_within_their_limits() -> None:
    lengths = [256] * 9 + [3] * 50 + [100]
    groups = batches(lengths)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(len(group) <= 32 for group in groups)
    assert all(len(group) * max(lengths[index] for index in group) <= 1024 for group in groups)
