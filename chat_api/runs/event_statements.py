"""A session's events as they are told: over sockets, and to webhooks."""

from __future__ import annotations

from chat_api.messages.documents import MESSAGE_COLUMNS, timestamp
from chat_api.runs.documents import RUN_COLUMNS
from chat_api.tools.documents import TOOL_COLUMNS

EVENTS_AFTER = f"""
    SELECT e.event_seq, e.type, e.run_id, (e.data ->> 'user_id')::uuid AS user_id,
        json_build_object(
            'type', CASE WHEN e.message_id IS NOT NULL AND m.id IS NULL THEN 'message.deleted' ELSE e.type END,
            'session_id', e.session_id,
            'event_seq', e.event_seq,
            'data', CASE
                WHEN e.message_id IS NOT NULL AND (m.id IS NULL OR e.type = 'message.deleted') THEN json_build_object(
                    'id', e.message_id, 'session_id', e.session_id, 'seq', m.seq,
                    'deleted_at', {timestamp("m.deleted_at")}
                )
                WHEN e.type = 'reaction.updated' THEN json_build_object(
                    'message_id', m.id, 'reactions', m.reactions
                )
                WHEN e.message_id IS NOT NULL THEN (SELECT row_to_json(d) FROM (SELECT {MESSAGE_COLUMNS}) d)
                WHEN t.id IS NOT NULL THEN (SELECT row_to_json(d) FROM (SELECT {TOOL_COLUMNS}) d)
                WHEN e.tool_execution_id IS NOT NULL THEN json_build_object(
                    'id', e.tool_execution_id, 'session_id', e.session_id, 'run_id', e.run_id
                )
                WHEN r.id IS NOT NULL THEN (SELECT row_to_json(d) FROM (SELECT {RUN_COLUMNS}) d)
                ELSE coalesce(e.data, '{{}}')::json
            END
        ) AS frame
    FROM chat.session_events e
    LEFT JOIN chat.messages m ON m.session_id = e.session_id AND m.id = e.message_id
    LEFT JOIN chat.users u ON u.id = m.sender_id
    LEFT JOIN chat.runs r ON r.session_id = e.session_id AND r.id = e.run_id AND e.message_id IS NULL
        AND e.tool_execution_id IS NULL
    LEFT JOIN chat.tool_executions t ON t.session_id = e.session_id AND t.id = e.tool_execution_id
    WHERE e.session_id = $1 AND e.event_seq > $2
    ORDER BY e.event_seq LIMIT $3
"""
"""($1 session, $2 after event, $3 limit) → events in order, each with the frame that clients get.

A frame shows what it speaks of as it is now: a text that was edited or deleted since is not told again.
"""
