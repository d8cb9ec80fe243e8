"""Codes on the wire between real servers: packed to their bits, block by block."""
