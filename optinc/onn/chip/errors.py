"""Static errors of the parts of one layer, on drawn chips."""

# Shape suffixes: C chips, B blocks, m outputs, n inputs, s size of a block, l = max(m, n), w ways
# of a splitter.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from optinc.onn.chip.draws import Draws
from optinc.onn.layer_factors import LayerDescription
from optinc.photonics.area import unitary_mzis
from optinc.photonics.chip_settings import ChipSettings, Shifters
from optinc.photonics.imperfect_mesh import MeshErrors
from optinc.photonics.parts.splitter import Splitter
from optinc.photonics.parts.units import amplitude_of_loss


@dataclass(frozen=True, kw_only=True)
class LayerErrors:
    """Static errors of one layer of C drawn chips; tensors of one chip hold for all.

    Attributes:
        parts: Errors by name of a mesh (``left``, ``right``, ``blocks<s>``), or of columns of
            attenuators (``attenuation``, ``blocks<s>.attenuation``, ``bias``).
        passed: Relative errors of the amplitudes that attenuators pass, by the name of the column:
            float [C or 1, ...] in the shape of its setting.
        beam: Relative errors of the reference beam, [C or 1, 1] at a port, [C or 1, m] behind
            attenuators.
        gain_Cm: Relative errors of the electronic gains, [C or 1, m].
        imbalance_Cmn: What uneven splitters multiply weights by; None where they are even.
        column: Mean amplitude that an MZI passes.
        excess: Mean amplitude that splitters and combiners leave, besides dividing light.
        chips: Number C of chips.
    """

    parts: dict[str, MeshErrors]
    passed: dict[str, Tensor]
    beam: Tensor
    gain_Cm: Tensor
    imbalance_Cmn: Tensor | None
    column: float
    excess: float
    chips: int

    def map(self, change: Callable[[Tensor], Tensor], *, chips: int | None = None) -> LayerErrors:
        """Return errors whose tensors are changed, of as many chips unless said otherwise."""
        return replace(
            self,
            parts={name: _mapped(part, change) for name, part in self.parts.items()},
            passed={name: change(value) for name, value in self.passed.items()},
            beam=change(self.beam),
            gain_Cm=change(self.gain_Cm),
            imbalance_Cmn=None if self.imbalance_Cmn is None else change(self.imbalance_Cmn),
            chips=self.chips if chips is None else chips,
        )

    def of_chips(self, first: int, last: int) -> LayerErrors:
        """Return the errors of the chips ``first`` to ``last - 1``."""
        return self.map(
            lambda value: value if len(value) == 1 else value[first:last], chips=last - first
        )


def _mapped(part: MeshErrors, change: Callable[[Tensor], Tensor]) -> MeshErrors:
    tensors: dict[str, Any] = {
        each.name: change(getattr(part, each.name))
        for each in fields(part)
        if isinstance(getattr(part, each.name), Tensor)
    }
    return replace(part, **tensors)


def draw_errors(
    layer: LayerDescription,
    settings: ChipSettings,
    draws: Draws,
    *,
    index: int,
    shifters: Shifters | None = None,
) -> LayerErrors:
    """Draw the static errors of one layer.

    Args:
        layer: Form and size.
        settings: Parts and errors. An effect with the sigma 0 leaves the others as they are, so
            these may be what is known of a chip: the errors of the effects that they have.
        draws: Random numbers of the chips.
        index: 0-based layer.
        shifters: Form of the meshes' interferometers; None for that of the settings.
    """
    drawing = _Drawing(settings, draws, f"layers.{index}", shifters or settings.shifters)
    m, n = layer.outputs, layer.inputs
    parts = {name: drawing.mesh(name, shape) for name, shape in layer.mesh_shapes.items()}
    passed = {}
    for name, shape in layer.attenuator_shapes.items():
        parts[name] = drawing.attenuators(name, shape)
        passed[name] = drawing.of("attenuator_error", name, shape, settings.attenuator_error)
    # A port has one beam for all outputs; attenuators err one by one.
    beams = (1 if layer.bias == "port" else m,)
    beam = drawing.of("bias_error", "bias", beams, settings.bias_error)
    if layer.bias == "attenuator" and settings.splitter_imbalance and m > 1:
        beam = (1 + beam) * drawing.reference(m) - 1
    imbalance = None
    if layer.form != "svd" and settings.splitter_imbalance and not layer.bare:
        imbalance = drawing.imbalance(m, n)
    return LayerErrors(
        parts=parts,
        passed=passed,
        beam=beam,
        gain_Cm=drawing.of("gain_error", "gain", (m,), settings.gain_error),
        imbalance_Cmn=imbalance,
        column=drawing.column,
        excess=amplitude_of_loss(Splitter(ways=layer.ways).stages * settings.splitter_loss),
        chips=draws.chips,
    )


@dataclass(frozen=True)
class _Drawing:
    """The draws of one layer."""

    settings: ChipSettings
    draws: Draws
    layer: str
    shifters: Shifters

    @property
    def column(self) -> float:
        """Mean amplitude that an MZI passes; finite extinction takes some of it."""
        extinction = self.settings.extinction
        dark = 0.0 if extinction is None else amplitude_of_loss(extinction)
        return amplitude_of_loss(self.settings.mzi_loss) / (1 + dark)

    def of(self, effect: str, name: str, shape: Sequence[int], sigma: float) -> Tensor:
        """Draw normal errors float64 [C, *shape], or zeros [1, *shape] where sigma is 0."""
        drawn = self.draws.errors(effect, f"{self.layer}.{name}", shape, sigma=sigma)
        return torch.zeros(1, *shape, dtype=torch.float64) if drawn is None else drawn

    def mesh(self, name: str, shape: tuple[int, int]) -> MeshErrors:
        """Draw the errors of B meshes of n modes."""
        place, sigma = f"{self.layer}.{name}", self.settings.phase_error
        mzis = (shape[0], unitary_mzis(shape[1]))
        return replace(
            self._mzis(name, mzis, self.shifters),
            phi_CBE=self.draws.errors("phase_error", f"{place}.phi", mzis, sigma=sigma),
            output_CBn=self.draws.errors("phase_error", f"{place}.output", shape, sigma=sigma),
        )

    def attenuators(self, name: str, shape: Sequence[int]) -> MeshErrors:
        """Draw the errors of columns of attenuators: MZIs with one shifter."""
        return self._mzis(name, (1, *shape)[-2:], "one_arm")

    def _mzis(self, name: str, mzis: Sequence[int], shifters: Shifters) -> MeshErrors:
        """Draw the errors of interferometers [B, E]."""
        settings, place, draws = self.settings, f"{self.layer}.{name}", self.draws
        arms = (*mzis, 2)
        couplers = draws.errors("coupler_error", place, arms, sigma=settings.coupler_error)
        if settings.coupler_common_error:
            zero = torch.zeros(1, *arms, dtype=torch.float64)
            couplers = (zero if couplers is None else couplers) + settings.coupler_common_error
        internal = draws.errors("phase_error", f"{place}.arms", arms, sigma=settings.phase_error)
        if internal is not None and shifters == "one_arm":
            internal[..., 0] = 0.0  # no shifter, no error
        spread = draws.errors("mzi_loss_spread", place, arms, sigma=settings.mzi_loss_spread)
        if spread is None and settings.mzi_loss:
            spread = torch.zeros(1, *arms, dtype=torch.float64)
        return MeshErrors(
            couplers_CBE2=couplers,
            arms_CBE2=internal,
            loss_CBE2=None if spread is None else settings.mzi_loss + spread,
            skip=self.column
            if settings.skip_loss is None
            else amplitude_of_loss(settings.skip_loss),
            extinction=settings.extinction,
            phase_bits=settings.phase_bits,
            crosstalk=settings.crosstalk,
        )

    def reference(self, m: int) -> Tensor:
        """Return what the uneven splitter of the reference beam multiplies shares by, [C, m]."""
        splitter = Splitter(ways=m, imbalance=self.settings.splitter_imbalance)
        place = f"{self.layer}.reference"
        random = self.draws.standard("splitter_imbalance", place, (m - 1,))
        return math.sqrt(m) * splitter.amplitudes(random)

    def imbalance(self, m: int, n: int) -> Tensor:
        """Return what uneven splitters and combiners of blocks multiply weights by, [C, m, n].

        Every input has its splitter where there are more outputs, else every output a combiner.
        """
        size, longer = min(m, n), max(m, n)
        count, rest = divmod(longer, size)
        ways = count + bool(rest)
        if ways < 2:
            return torch.ones(1, m, n, dtype=torch.float64)
        splitter = Splitter(ways=ways, imbalance=self.settings.splitter_imbalance)
        place = f"{self.layer}.splitters{m}x{n}"
        random = self.draws.standard("splitter_imbalance", place, (size, ways - 1))
        share_Csw = math.sqrt(ways) * splitter.amplitudes(random)
        # By row of the longer side: the block to which it belongs, the rest being the last.
        share_Csl = share_Csw[..., torch.arange(longer).div(size, rounding_mode="floor")]
        relative_Cmn = share_Csl.mT if m >= n else share_Csl
        if rest:
            below = (
                (slice(-rest, None), slice(None)) if m >= n else (slice(None), slice(-rest, None))
            )
            inner = self.imbalance(rest, n) if m >= n else self.imbalance(m, rest)
            relative_Cmn = relative_Cmn.clone()
            relative_Cmn[(slice(None), *below)] *= inner
        return relative_Cmn
