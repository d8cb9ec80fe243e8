"""Codes, PAM4 symbols and analog averages, which travel on the fibre (Sec. III-A, Fig. 3)."""
