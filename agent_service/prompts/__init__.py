"""What models are told besides the conversation: rules, and passages as quoted material."""
