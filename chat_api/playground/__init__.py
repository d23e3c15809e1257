"""A page to try the API in a browser: two people and the assistant, side by side."""
