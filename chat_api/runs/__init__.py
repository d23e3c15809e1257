"""Sending a message and answering it: the send statement, the run, its stream, its lease."""
