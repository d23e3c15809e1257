"""A server of the Model Context Protocol: a person's knowledge and messages for the programs that act for them."""
