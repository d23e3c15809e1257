"""A person's right to everything of theirs: one archive, or nothing left."""
