"""An ONN on drawn chips: its parts, their errors and their noise."""

from optinc.onn.chip.accuracy import chip_accuracy
from optinc.onn.chip.network import ChipNetwork

__all__ = ["ChipNetwork", "chip_accuracy"]
