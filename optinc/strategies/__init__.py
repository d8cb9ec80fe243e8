"""Lightning strategies that average gradients by a reducer, virtual servers and DDP."""
