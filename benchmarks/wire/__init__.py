"""Gradients between processes over links of a given speed: ``python -m benchmarks.wire``."""
