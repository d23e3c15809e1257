"""What was said: the window of history, edits with revisions, tombstones."""
