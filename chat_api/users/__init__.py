"""People: registration, signing in, their own account, and finding each other."""
