"""What several experiments share: options, workloads, runs and records."""
