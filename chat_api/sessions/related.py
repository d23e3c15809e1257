"""What was said last in a linked session, as context for the model.

A session's owner may link another session in which they take part. What is taken from it is bounded, and goes through
`quoted`: people there did not write to the assistant here, so nothing of theirs may look like anything but a quotation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from chat_api.kit.db import Database
from chat_api.sessions.errors import RelatedSessionNotFound
from chat_api.sessions.schemas import RelatedContext, RelatedMessage

MOST_CHARACTERS = 6_000
"""Of the text of a linked session, marks not counted: about 1,500 tokens."""
MOST_MESSAGE_CHARACTERS = 2_000
CUT = "…"

_LINKED = """
    SELECT l.id, l.title FROM chat.sessions s
    JOIN chat.sessions l ON l.id = s.related_session_id AND l.id <> s.id
    JOIN chat.participants o ON o.session_id = l.id AND o.user_id = s.owner_id
"""
"""The session `l` that a session `s` is linked to, as long as the owner of `s` takes part in it."""

_SAID = """
    SELECT l.id, l.title, said.username, said.content
    FROM linked l LEFT JOIN LATERAL (
        SELECT m.seq, coalesce(u.username, 'assistant') AS username, left(m.content, $4) AS content
        FROM chat.messages m LEFT JOIN chat.users u ON u.id = m.sender_id
        WHERE m.session_id = l.id AND m.role IN ('user', 'assistant') AND m.status IN ('complete', 'cancelled')
          AND m.deleted_at IS NULL AND m.content <> ''
        ORDER BY m.seq DESC LIMIT $3
    ) said ON true
    ORDER BY said.seq DESC
"""

_FOR_READER = f"""
    WITH linked AS (
        {_LINKED}
        JOIN chat.participants p ON p.session_id = s.id AND p.user_id = $2
        JOIN chat.participants q ON q.session_id = l.id AND q.user_id = $2
        WHERE s.id = $1
    )
    {_SAID}
"""
"""($1 session, $2 reader, $3 messages, $4 characters of each) → the latest first.

No row when the reader does not take part in both.
"""

_FOR_RUN = f"""
    WITH linked AS (
        {_LINKED}
        JOIN chat.runs r ON r.session_id = s.id AND r.id = $2 AND r.include_related_context
        WHERE s.id = $1
    )
    {_SAID}
"""
"""($1 session, $2 run, $3 messages, $4 characters of each) → the same; no row when the run does without."""


class RelatedContexts:
    """`messages` is how many of a linked session's are taken at most."""

    def __init__(self, database: Database, *, messages: int) -> None:
        self._database = database
        self._messages = messages

    async def for_reader(self, session_id: UUID, user_id: UUID) -> RelatedContext:
        """Raises `RelatedSessionNotFound`, also where the reader does not take part in the linked session."""
        found = await self._context(_FOR_READER, session_id, user_id)
        if found is None:
            raise RelatedSessionNotFound
        return found

    async def for_run(self, session_id: UUID, run_id: UUID) -> RelatedContext | None:
        """None where nothing is linked, the owner does not take part there any more, or the message wants none."""
        return await self._context(_FOR_RUN, session_id, run_id)

    async def _context(self, statement: str, session_id: UUID, other_id: UUID) -> RelatedContext | None:
        rows = await self._database.fetch_rows(
            statement, session_id, other_id, self._messages, MOST_MESSAGE_CHARACTERS + 1
        )
        if not rows:
            return None
        latest = (Said(row["username"], row["content"]) for row in rows if row["username"] is not None)
        said = within(latest, MOST_CHARACTERS)
        return RelatedContext(
            session_id=rows[0]["id"],
            title=rows[0]["title"],
            messages=[RelatedMessage(username=one.username, content=one.content) for one in said],
            text="\n".join(one.line for one in said),
        )


@dataclass(frozen=True, slots=True)
class Said:
    username: str
    content: str

    @property
    def line(self) -> str:
        """`username: content`. Further lines of the content are set in, so that none begins as another's would."""
        return f"{self.username}: " + quoted(self.content).replace("\n", "\n  ")


def within(latest: Iterable[Said], characters: int) -> list[Said]:
    """As many of the latest as there is room for, the earliest first. Long ones are cut."""
    kept: list[Said] = []
    for said in latest:
        content = said.content.strip()
        if len(content) > MOST_MESSAGE_CHARACTERS:
            content = content[:MOST_MESSAGE_CHARACTERS] + CUT
        shown = Said(said.username, content)
        characters -= len(shown.line) + 1
        if characters < 0:
            break
        kept.append(shown)
    return kept[::-1]


# Angles of every script that a model may take for one, before what could be a mark or a control token.
_OPENING = re.compile("[<\u02c2\u2039\u2329\u276c\u2770\u27e8\u29fc\u3008\ufe64\uff1c](?=[^\\s\\d=<-])")
_BRACKETED = re.compile(r"[\[\uff3b](?=/?[A-Z_]{3,}\])", re.IGNORECASE)
_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_JOINERS = "\u200c\u200d"
_UNSEEN = frozenset(("Cc", "Cf", "Co", "Cs", "Cn"))


def quoted(text: str) -> str:
    """The text with nothing in it that people do not see, and nothing that parts a prompt: marks, roles, tokens."""
    text = _LINE_ENDS.sub("\n", text)
    text = "".join(letter for letter in text if letter in "\n\t" or _is_seen(letter))
    return _BRACKETED.sub("(", _OPENING.sub("(", text))


def _is_seen(letter: str) -> bool:
    # Persian and the scripts of India join letters with these.
    return letter in _JOINERS or unicodedata.category(letter) not in _UNSEEN
