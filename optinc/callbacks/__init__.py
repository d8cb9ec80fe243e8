"""Lightning callbacks: checkpoints, preemption, random state and statistics of the light."""
