"""Who did what as an administrator, or to their own account."""
