"""OpenAI's words for a turn, its models and its errors, so that OpenAI's own clients work at both services' doors.

Translated at the edge: what stands behind is `shared.contracts.chat`.
"""
