"""Can this switch be built? Yield, energy, area, and what training notices; see ``__main__``."""
