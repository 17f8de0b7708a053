"""What every training shares: loop, optimiser, session (checkpoints, curves), configuration."""
