"""Can this switch be built? Yield, energy, area and effect on training; see ``__main__``."""
