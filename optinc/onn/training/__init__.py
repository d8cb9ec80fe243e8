"""Hardware-aware training of ONNs (Sec. III-B, eq. 7)."""
