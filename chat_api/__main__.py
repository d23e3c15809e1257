"""`python -m chat_api` is the `colloquy` command."""

from chat_api.cli.main import main

if __name__ == "__main__":
    main()
