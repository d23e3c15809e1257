"""What a plan lets a person use, and what is used of it."""
