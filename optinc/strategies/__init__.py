"""Lightning strategies whose gradients a reducer averages."""
