"""Parts of a photonic switch: frozen descriptions, and pure functions on complex amplitudes.

In the order in which light meets them:

- :mod:`.laser` steady light with intensity noise
- :mod:`.modulator` electrical amplitudes onto light, PAM4
- :mod:`.averaging` the servers' light in unit P, coherent or incoherent
- :mod:`.splitter` splitters 1:k and combiners k:1
- :mod:`.coupler` directional couplers
- :mod:`.phase_shifter` phases, their DACs and thermal crosstalk
- :mod:`.mzi` imperfect Mach-Zehnder interferometers, both hardware forms
- :mod:`.crossing` waveguide crossings
- :mod:`.attenuator` diagonal matrices
- :mod:`.photodetector` direct and homodyne detection and their noise
- :mod:`.electronics` gain and ReLU
- :mod:`.receiver` levels, thresholds and their errors
- :mod:`.units` decibels, dBm, constants

Tensors have chips C first and are broadcast; nothing draws random numbers: functions take standard
normal draws, so that a caller decides what a chip's seed decides. Each part has ``of(settings)``
where :class:`optinc.photonics.chip_settings.ChipSettings` describe it.
"""
