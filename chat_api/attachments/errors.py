"""What can be wrong with an attachment."""

from __future__ import annotations

from shared.problems import PayloadTooLarge, Problem


class AttachmentNotFound(Problem):
    status = 404
    code = "attachment-not-found"
    title = "Attachment not found"
    detail = "There is no such attachment, or it is not yours: of others' you may read what their messages show you."


class AttachmentTooLarge(PayloadTooLarge):
    code = "attachment-too-large"
    title = "The file is too large"
    detail = "A file that is attached may not be this large."

    @classmethod
    def named(cls, name: str, limit: int) -> AttachmentTooLarge:
        return cls(f"{name!r} is larger than {limit} bytes, which is the most that an attachment may have.")


class EmptyAttachment(Problem):
    status = 422
    code = "empty-attachment"
    title = "The file is empty"
    detail = "There is nothing in the file. Was it saved, and uploaded as a whole?"
