"""What a turn is, and how it can go wrong. Knows pydantic and the wire contract, nothing else."""
