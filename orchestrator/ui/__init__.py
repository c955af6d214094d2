"""The page: `orchestrator ui` serves it, and tells it what the commands tell (`presenters`)."""
