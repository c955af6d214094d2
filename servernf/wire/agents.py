"""What a server's agent and its callers agree on beside the messages (servernf/proto/agent.proto)."""

from __future__ import annotations

API_VERSION = 1
"""Of the agent's API; another one may mean anything, so a caller refuses it."""
