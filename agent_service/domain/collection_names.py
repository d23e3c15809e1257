"""By which id a collection is stored."""

from __future__ import annotations

from uuid import UUID, uuid5

_PEOPLE = UUID("6b1f6c1e-5d0b-5a53-9d5e-0f1c4d7e2a90")


def stored_id(collection_id: UUID, owner_id: UUID | None) -> UUID:
    """A service's ids are taken as they are. Each person's are names of their own.

    Ids of a service can be known before their first document is stored: a bot's are. Were there one space of names, a
    person could take such an id first, and own what is put there later.
    """
    return collection_id if owner_id is None else uuid5(_PEOPLE, f"{owner_id}:{collection_id}")
