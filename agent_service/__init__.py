"""The agent service: everything that touches a model. It keeps no conversations."""
