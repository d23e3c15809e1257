"""Files that messages name: uploaded first, read by whoever takes part in a session that names them."""
