"""What the realtime layer reads, each in one statement."""

from __future__ import annotations

POSITIONS = "SELECT id, last_event_seq FROM chat.sessions WHERE id = ANY($1::uuid[])"
"""($1 sessions) → how far the events of those that exist go."""

ACTIVE_RUN = "SELECT id FROM chat.runs WHERE session_id = $1 AND status = 'running'"
"""($1 session) → the run that is answered now."""

PERSON = "SELECT id, username FROM chat.users WHERE id = $1 AND is_active"
"""($1 user)"""

MEMBERSHIP = """
    SELECT s.last_event_seq FROM chat.sessions s
    JOIN chat.participants p ON p.session_id = s.id AND p.user_id = $2
    WHERE s.id = $1
"""
"""($1 session, $2 user) → how far the session's events go, at a moment when the person takes part; else no row."""
