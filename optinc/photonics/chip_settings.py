"""Settings of a photonic chip: its parts, their static errors and their dynamic noise.

Every value is in the unit of a data sheet. The defaults are an ideal chip; the presets of
``conf/optinc/chip`` hold published values with their sources.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, get_args

from optinc.errors import ConfigurationError

Hardware = Literal["mesh", "crossbar"]
Shifters = Literal["push_pull", "one_arm"]
Averaging = Literal["coherent", "incoherent"]
Detection = Literal["homodyne", "direct"]
BiasForm = Literal["port", "attenuator"]


def _choice(default: str, choices: Any, meaning: str) -> Any:
    """Declare a setting with a few legal words."""
    metadata = {"legal": get_args(choices), "unit": "", "kind": "design", "meaning": meaning}
    return field(default=default, metadata=metadata)


def _number(
    default: float | None, kind: str, unit: str, legal: tuple[float, float], text: str
) -> Any:
    """Declare a number with its unit and legal range; None is legal where it is the default."""
    return field(
        default=default, metadata={"legal": legal, "unit": unit, "kind": kind, "meaning": text}
    )


INFINITE = math.inf


@dataclass(frozen=True, kw_only=True)
class ChipSettings:
    """A technology, and the chip drawn in it by ``seed``; every default is an ideal part.

    The metadata of each field hold its unit, its legal range, its kind (``design``, ``static``:
    drawn once a chip, or ``dynamic``: drawn for every symbol) and its meaning.

    Raises:
        ConfigurationError: If a value is impossible; names setting, unit and range.
    """

    hardware: Hardware = _choice(
        "mesh",
        Hardware,
        "a layer's weights: meshes of MZIs, or one attenuator for each nonzero one",
    )
    shifters: Shifters = _choice("push_pull", Shifters, "where the phase shifters of an MZI lie")
    averaging: Averaging = _choice(
        "coherent", Averaging, "unit P adds fields of a common laser, or detected intensities"
    )
    detection: Detection = _choice(
        "homodyne", Detection, "a layer's outputs: signed fields, or intensities"
    )
    bias: BiasForm = _choice(
        "port",
        BiasForm,
        "reference beam: one more input port of an SVD mesh, or one attenuator an output",
    )
    seed: int = _number(0, "design", "", (0, 2**63 - 1), "seed of the chip's static errors")

    # Static errors: drawn once a chip.
    coupler_error: float = _number(
        0.0, "static", "rad", (0.0, math.pi / 4), "sigma of a coupler's splitting angle around pi/4"
    )
    coupler_common_error: float = _number(
        0.0,
        "static",
        "rad",
        (-math.pi / 4, math.pi / 4),
        "shift of all splitting angles (wavelength)",
    )
    phase_error: float = _number(
        0.0, "static", "rad", (0.0, math.pi), "sigma of every phase that remains after calibration"
    )
    phase_bits: int | None = _number(
        None, "static", "bits", (1, 24), "resolution of the phase shifters' DACs over 2 pi"
    )
    crosstalk: float = _number(
        0.0, "static", "1", (0.0, 0.5), "share of a heater's phase seen by its nearest neighbours"
    )
    extinction: float | None = _number(
        None, "static", "dB", (0.0, 200.0), "worst extinction of an MZI's bar and cross states"
    )
    mzi_loss: float = _number(0.0, "static", "dB", (0.0, 100.0), "mean loss of an MZI")
    mzi_loss_spread: float = _number(
        0.0, "static", "dB", (0.0, 100.0), "sigma of the loss of each arm of an MZI"
    )
    skip_loss: float | None = _number(
        None,
        "static",
        "dB",
        (0.0, 100.0),
        "loss of a mode that skips a column; none: that of an MZI",
    )
    crossing_loss: float = _number(
        0.0, "static", "dB", (0.0, 100.0), "loss of a waveguide crossing"
    )
    splitter_loss: float = _number(
        0.0, "static", "dB", (0.0, 100.0), "excess loss of each 1:2 stage of a splitter or combiner"
    )
    splitter_imbalance: float = _number(
        0.0,
        "static",
        "dB",
        (0.0, 100.0),
        "sigma of the ratio of powers behind each 1:2 stage of a splitter",
    )
    coupling_loss: float = _number(
        0.0, "static", "dB", (0.0, 100.0), "loss of a fibre-to-chip or laser-to-chip facet"
    )
    modulator_loss: float = _number(
        0.0, "static", "dB", (0.0, 100.0), "insertion loss of a modulator"
    )
    modulator_extinction: float | None = _number(
        None,
        "static",
        "dB",
        (0.0, 200.0),
        "extinction of a modulator: light that a dark symbol leaves",
    )
    attenuator_error: float = _number(
        0.0,
        "static",
        "1",
        (0.0, 1.0),
        "sigma of an attenuator's amplitude, relative to its setting",
    )
    bias_error: float = _number(
        0.0, "static", "1", (0.0, 1.0), "sigma of a bias, relative to its setting"
    )
    gain_error: float = _number(
        0.0, "static", "1", (0.0, 1.0), "sigma of the electronic gain of an output, relative"
    )
    level_error: float = _number(
        0.0, "static", "1", (0.0, 1.0), "sigma of each transmitter's PAM4 amplitudes, of full scale"
    )
    server_imbalance: float = _number(
        0.0,
        "static",
        "1",
        (0.0, 1.0),
        "sigma of the amplitude that arrives from a server, relative",
    )
    server_phase: float = _number(
        0.0, "static", "rad", (0.0, INFINITE), "sigma of the residual phase of a server's light"
    )
    relu_knee: float = _number(
        0.0, "static", "1", (0.0, 1.0), "width of the ReLU's soft knee, of the layer's full scale"
    )
    relu_leak: float | None = _number(
        None, "static", "dB", (0.0, 200.0), "suppression of negative amplitudes by the ReLU"
    )

    # Dynamic noise: drawn for every symbol.
    noise: float = _number(
        0.0, "dynamic", "1", (0.0, 1.0), "Gaussian noise on a layer's inputs, of their full scale"
    )
    receiver_noise: float = _number(
        0.0, "dynamic", "1", (0.0, 1.0), "Gaussian noise on the receivers, of their full scale"
    )
    rin: float | None = _number(
        None, "dynamic", "dB/Hz", (-250.0, 0.0), "relative intensity noise of the lasers"
    )
    symbol_rate: float = _number(53.125, "design", "GBd", (1e-3, 1e3), "symbols a second")
    bandwidth: float = _number(
        0.7, "design", "1", (0.5, 2.0), "noise bandwidth of every detector, of the symbol rate"
    )
    laser_power: float | None = _number(
        None,
        "dynamic",
        "dBm",
        (-100.0, 50.0),
        "light on a layer's modulator; none: no shot, no thermal noise",
    )
    local_oscillator: float = _number(
        10.0, "dynamic", "dBm", (-100.0, 50.0), "local oscillator of a homodyne detector"
    )
    responsivity: float = _number(
        1.0, "dynamic", "A/W", (1e-3, 1.5), "responsivity of a photodetector"
    )
    thermal_noise: float = _number(
        0.0, "dynamic", "pA/sqrt(Hz)", (0.0, 1e3), "input-referred current noise of an amplifier"
    )
    common_mode_rejection: float | None = _number(
        None,
        "dynamic",
        "dB",
        (0.0, 200.0),
        "rejection of the local oscillator's intensity noise by a homodyne detector",
    )
    phase_drift: float = _number(
        0.0,
        "dynamic",
        "rad",
        (0.0, INFINITE),
        "sigma of the phase between servers, every symbol anew; inf: free-running lasers",
    )
    timing_skew: float = _number(
        0.0, "dynamic", "1", (0.0, 0.5), "sigma of a server's delay, in symbols"
    )

    # For budgets only; they change no symbol.
    heater_power: float = _number(0.0, "budget", "mW", (0.0, 1e4), "mean power of a phase shifter")
    mzi_area: float = _number(0.0, "budget", "mm^2", (0.0, 100.0), "area of an MZI")
    wall_plug: float = _number(
        0.1, "budget", "1", (1e-6, 1.0), "light a laser emits per electrical power"
    )
    conversion_energy: float = _number(
        0.0,
        "budget",
        "pJ",
        (0.0, 1e6),
        "detector, amplifier, driver and modulator, a symbol and output",
    )

    mzi_length: float = _number(
        0.0, "budget", "mm", (0.0, 100.0), "length of a column of interferometers"
    )
    group_index: float = _number(4.0, "budget", "1", (1.0, 10.0), "group index of the waveguides")
    conversion_latency: float = _number(
        0.0, "budget", "ns", (0.0, 1e6), "detector, amplifier, driver and modulator: their delay"
    )

    # Where the values come from, by setting; two chips of equal values are equal.
    sources: Mapping[str, str] = field(
        default_factory=dict,
        compare=False,
        metadata={"kind": "sources", "unit": "", "legal": (), "meaning": ""},
    )

    def __post_init__(self) -> None:
        for each in numbers():
            _check(each, getattr(self, each.name))
        _check_combinations(self)
        _check_sources(self.sources)

    @property
    def noise_bandwidth(self) -> float:
        """Noise bandwidth of every detector in Hz."""
        return self.bandwidth * self.symbol_rate * 1e9


def numbers() -> list[Field[Any]]:
    """Return the fields of :class:`ChipSettings` that hold a value, without the sources."""
    return [each for each in fields(ChipSettings) if each.metadata["kind"] != "sources"]


def limit(value: float) -> str:
    """Return the end of a legal range as text; of integers every digit."""
    return str(value) if isinstance(value, int) else f"{value:g}"


def _check(each: Field[Any], value: Any) -> None:
    """Refuse an impossible value.

    Raises:
        ConfigurationError: Names setting, unit and range.
    """
    legal, unit = each.metadata["legal"], each.metadata["unit"]
    if isinstance(each.default, str):
        if value not in legal:
            raise ConfigurationError(
                f"optinc.chip.{each.name} must be {' | '.join(legal)}, got {value!r}"
            )
        return
    if value is None and each.default is None:
        return
    low, high = legal
    whole = each.name in ("seed", "phase_bits")
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        optional = " or null" if each.default is None else ""
        number = "an integer" if whole else "a number"
        in_unit = f" {unit}" if unit not in ("", "1") else ""
        raise ConfigurationError(
            f"optinc.chip.{each.name} must be {number} from {limit(low)} to {limit(high)}{in_unit}"
            f"{optional}, got {value}"
        )


def _check_combinations(settings: ChipSettings) -> None:
    """Refuse settings that would be ignored beside others.

    Raises:
        ConfigurationError: Names both settings and the remedy.
    """
    if settings.hardware == "crossbar" and settings.skip_loss is not None:
        raise ConfigurationError(
            f"optinc.chip.skip_loss={settings.skip_loss:g} dB is that of a mode that skips a "
            "column of a mesh, but optinc.chip.hardware=crossbar has no mesh: set "
            "optinc.chip.skip_loss=null, or optinc.chip.hardware=mesh"
        )
    if settings.laser_power is None and settings.thermal_noise:
        raise ConfigurationError(
            f"optinc.chip.thermal_noise={settings.thermal_noise:g} pA/sqrt(Hz) is a share of full "
            "scale only at a known optical power: give optinc.chip.laser_power in dBm, or set "
            "optinc.chip.thermal_noise=0"
        )
    rejection = settings.common_mode_rejection
    if rejection is None:
        return
    if settings.detection == "direct":
        raise ConfigurationError(
            f"optinc.chip.common_mode_rejection={rejection:g} dB is that of a homodyne detector's "
            "two diodes, but optinc.chip.detection=direct has one and no local oscillator: set "
            "optinc.chip.common_mode_rejection=null, or optinc.chip.detection=homodyne"
        )
    for name in ("rin", "laser_power"):
        if getattr(settings, name) is None:
            raise ConfigurationError(
                f"optinc.chip.common_mode_rejection={rejection:g} dB acts on the intensity noise "
                "of light of a known power: give optinc.chip.rin in dB/Hz and "
                "optinc.chip.laser_power in dBm, or set optinc.chip.common_mode_rejection=null"
            )


def _check_sources(sources: Any) -> None:
    """Refuse sources of settings that do not exist.

    Raises:
        ConfigurationError: Names the setting and the nearest legal one.
    """
    names = [each.name for each in numbers()]
    if not isinstance(sources, Mapping):
        raise ConfigurationError(
            f"optinc.chip.sources must map settings to citations, got {sources!r}"
        )
    for name, text in sources.items():
        if name not in names:
            nearest = difflib.get_close_matches(str(name), names, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ConfigurationError(f"optinc.chip.sources.{name} is no setting of a chip{hint}")
        if not isinstance(text, str) or not text.strip():
            raise ConfigurationError(
                f"optinc.chip.sources.{name} must be a citation as text, got {text!r}"
            )
