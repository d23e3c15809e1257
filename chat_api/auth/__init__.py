"""Who is calling and what they may do: access tokens, refresh families, API keys, permissions."""
