"""What single statements about a session have in common."""

from __future__ import annotations

NOBODY_LEFT = "membership_version = (SELECT x.membership_version FROM chat.sessions x WHERE x.id = s.id)"
"""Of a session row `s` that may have been waited for: the row is new then, and the one inside as old as everything else
that the statement sees. So it is false when somebody went meanwhile, and the caller may be the one."""
