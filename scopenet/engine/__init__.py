"""Training, checkpoints and process start."""
