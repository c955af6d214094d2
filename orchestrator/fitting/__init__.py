"""What a pipeline takes of a switch chip, stage by stage, and what would fit where it does not."""
