"""Hardware of the layers of a switch, meshes or crossbars, by the names that experiments use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optinc.photonics.chip_settings import ChipSettings

HARDWARE: dict[str, dict[str, Any]] = {
    "mesh": {},
    "crossbar_fields": {"hardware": "crossbar", "detection": "homodyne"},
    "crossbar_intensities": {"hardware": "crossbar", "detection": "direct"},
}
"""Hardware of the layers, and the form of their light."""


def of_hardware(settings: ChipSettings, hardware: str) -> ChipSettings:
    """Return a chip with layers of :data:`HARDWARE`.

    Diodes of intensities have no local oscillator, whose noise a common mode could reject.

    Raises:
        ConfigurationError: If the chip does not fit.
    """
    form = HARDWARE[hardware]
    if form.get("detection") == "direct":
        form = form | {"common_mode_rejection": None}
    return replace(settings, **form)
