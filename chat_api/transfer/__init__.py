"""Sessions that leave as files, and files that become sessions."""
