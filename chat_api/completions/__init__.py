"""OpenAI's interface to bots: their knowledge, behind the clients that programs already have."""
