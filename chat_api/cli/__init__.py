"""The `colloquy` command."""
