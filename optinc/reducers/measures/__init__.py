"""Measures of a reduction: bytes, errors, statistics of codes."""
