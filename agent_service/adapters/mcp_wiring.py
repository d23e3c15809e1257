"""The MCP servers that the settings name."""

from __future__ import annotations

from agent_service.adapters.mcp_config import load_mcp_servers
from agent_service.adapters.mcp_source import McpSource, McpTimes
from agent_service.config import AgentSettings
from agent_service.ports.tools import ToolSource


def mcp_sources(settings: AgentSettings) -> list[ToolSource]:
    """None without `COLLOQUY_MCP_CONFIG`. Raises `SettingsError` for a file that cannot work.

    Nothing is started yet, and nothing heavy imported.
    """
    if settings.mcp_config is None:
        return []
    times = McpTimes(call=settings.tool_seconds)
    return [McpSource(name, server, times) for name, server in load_mcp_servers(settings.mcp_config).items()]
