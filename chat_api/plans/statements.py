"""Parts of statements that look at a quota, or count what is used of it."""

from __future__ import annotations

TODAY = "(now() AT TIME ZONE 'UTC')::date"

_LAST_ONES = 100
"""Messages before the quota that are counted in one place, one after the other. More than are ever sent at once."""

USED_TODAY = f"""used AS (
        SELECT coalesce(sum(d.messages), 0)::bigint AS used_messages, coalesce(sum(d.tokens), 0)::bigint AS used_tokens,
            coalesce(sum(d.messages) FILTER (WHERE d.shard <> 0), 0)::bigint AS used_elsewhere
        FROM chat.user_days d WHERE d.user_id = $2 AND d.day = {TODAY}
    )"""
"""What the caller, $2, used today, as the statement sees it when it begins."""

COUNT_MESSAGE = f"""counted AS (
        INSERT INTO chat.user_days AS d (user_id, day, shard, messages, allowed)
        SELECT $2, {TODAY},
            CASE WHEN $15::bigint - s.used_messages <= {_LAST_ONES} THEN 0 ELSE 1 + pg_backend_pid() % 15 END, 1,
            CASE WHEN $15 - s.used_messages <= {_LAST_ONES} THEN $15 - s.used_elsewhere END
        FROM s
        ON CONFLICT (user_id, day, shard) DO UPDATE SET messages = d.messages + 1, allowed = excluded.allowed
    )"""
"""One message of $2 to the session that `s` returned, with `used`; $15 is what they may send a day, or null.

What `used` saw may be older than the wait for the session. Far from the quota that does not matter, and each connection
counts in a shard of its own, so that nobody waits for another's commit. Near it all count in shard 0, whose row is read
anew once its lock is there: its check refuses what would be too many, and undoes the statement.
"""
