"""The admin pages: the browser's view of what administrators may see and do."""
