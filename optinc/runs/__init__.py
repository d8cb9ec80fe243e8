"""Runs on the disk: their folder, configuration, checkpoints and summary."""
