"""`colloquy seed`: people, conversations and documents that look like real ones, out of lists of our own."""
