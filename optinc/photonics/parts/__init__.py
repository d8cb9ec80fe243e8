"""Parts of a photonic switch: frozen descriptions, and pure functions on complex amplitudes.

- :mod:`.units` decibels, dBm, constants
- :mod:`.coupler` directional coupler
- :mod:`.phase_shifter` DAC and thermal crosstalk
- :mod:`.mzi` imperfect Mach-Zehnder interferometer, both hardware forms
- :mod:`.photodetector` direct and homodyne detection and their noise
- :mod:`.electronics` gain and ReLU
"""
