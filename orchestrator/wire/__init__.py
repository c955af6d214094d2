"""What both the orchestrator and the server NFs say on the wire: the shared vocabulary."""
