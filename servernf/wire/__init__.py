"""What both the orchestrator and the runtimes say: the shared vocabulary."""
