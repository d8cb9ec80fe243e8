"""What travels on the fibre: codes, PAM4 symbols and analog averages (Sec. III-A, Fig. 3)."""
