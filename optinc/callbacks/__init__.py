"""What watches a training: checkpoints, preemption, statistics of the light."""
