"""Gradients between processes whose links are as fast as told: ``python -m benchmarks.wire``."""
