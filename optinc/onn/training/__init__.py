"""Hardware-aware training of ONNs (Sec. III-B, eq. 7): of one switch, or of a whole cascade."""
