"""What is refused before the protocol is spoken."""

from __future__ import annotations

from shared.problems import Forbidden, MalformedRequest


class OriginNotAllowed(Forbidden):
    code = "origin-not-allowed"
    title = "This web page may not call"
    detail = "Its origin is not among those of `COLLOQUY_CORS_ORIGINS`."


class ProtocolVersionUnsupported(MalformedRequest):
    code = "protocol-version-unsupported"
    title = "This version of the protocol is not spoken here"
    detail = "`initialize` answers with a version that is."
