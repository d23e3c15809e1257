"""Models, the embedder and the chat API, behind the protocols of `ports`."""
