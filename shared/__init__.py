"""What both services may use: the wire contracts between them, and the plumbing that has no opinion.

Nothing here imports `chat_api`, `agent_service`, SQLAlchemy, LangChain or arq.
"""
