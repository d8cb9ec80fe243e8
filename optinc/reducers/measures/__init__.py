"""What a reduction costs and gets wrong: bytes, errors, statistics of codes."""
