"""An ONN on a drawn chip: its parts, their errors and their noise."""

from optinc.onn.chip.network import ChipNetwork

__all__ = ["ChipNetwork"]
