"""Kernels of the optical reduction: eager torch, the oracle, and fused kernels equal to it."""
