"""Optical switches: codes of the servers in, the code that all receive out (Fig. 3)."""
