"""Exact ONNs built without training."""
