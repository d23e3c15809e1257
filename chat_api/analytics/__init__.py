"""What was said, used and paid: of one session, of one person, of all."""
