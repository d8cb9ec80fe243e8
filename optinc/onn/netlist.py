"""Netlists of the layers of an ONN for ``sax``: meshes, attenuators, splitters and combiners.

    import json, sax
    netlist = json.load(open("layer_1.json"))
    circuit, _ = sax.circuit(netlist, {name: getattr(sax.models, name) for name in MODELS})
    scattering = sax.sdict(circuit())         # scattering["in0", "out2"]: from input 0 to output 2

A bias port is the last input of its layer. Biases that are attenuators are not part of the netlist,
nor are detectors and gains: sax knows linear light only.
"""

# Shape suffixes: m outputs, n inputs, B blocks, s size of a block.

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count

from optinc.onn.mesh_settings import MeshProgramme
from optinc.photonics.netlist import Cell, CellBuilder, Netlist, mesh_netlist, phase_shifter

MODELS = ("coupler_ideal", "phase_shifter", "attenuator", "splitter_ideal")
"""Models of sax that the netlists refer to."""

DARK = 400.0
"""Loss in dB of an attenuator set to 0: 1e-20 of the amplitude, since JSON knows no infinity."""


def layer_netlist(programme: MeshProgramme, index: int) -> Netlist:
    """Return the passive light of a layer as a netlist.

    Args:
        programme: Settings of all meshes.
        index: 0-based layer.

    Returns:
        Cells, the layer's first. Its S-parameters from ``in<j>`` to ``out<i>`` are
        :func:`optinc.onn.mesh_settings.transfer_matrix`, without the column of a bias that is an
        attenuator.
    """
    layer = programme.layers[index]
    builder = _LayerBuilder(programme, f"layers.{index}")
    if layer.form == "svd":
        inputs, outputs = builder.svd()
    else:
        inputs, outputs = builder.blocks(layer.outputs, layer.inputs)
    builder.cell.ports = {f"in{j}": port for j, port in enumerate(inputs)}
    builder.cell.ports |= {f"out{i}": port for i, port in enumerate(outputs)}
    return {f"layer_{index + 1}": builder.cell.cell()} | builder.cells


class _LayerBuilder:
    """Collects the parts of a layer."""

    def __init__(self, programme: MeshProgramme, prefix: str) -> None:
        self.programme, self.prefix = programme, prefix
        self.cell = CellBuilder()
        self.cells: dict[str, Cell] = {}
        self.numbers = count()
        self.next_block: dict[int, Iterator[int]] = {}

    def svd(self) -> tuple[list[str], list[str]]:
        """Add V^T, attenuators and U; return the ports of inputs and outputs."""
        attenuation = self.programme.settings[f"{self.prefix}.attenuation"].tolist()
        right_in, right_out = self.mesh("right")
        left_in, left_out = self.mesh("left")
        for scale, behind, before in zip(attenuation, right_out, left_in, strict=False):
            self.cell.connect(self.attenuated(scale, behind), before)
        return right_in, left_out

    def mesh(self, name: str, block: int = 0) -> tuple[list[str], list[str]]:
        """Add a mesh."""
        phases = self.programme.phases(f"{self.prefix}.{name}")
        kind = f"{name}_{block}"
        self.cells |= mesh_netlist(phases, block, name=kind)
        instance = self.cell.add(f"{name}_mesh_{block}", kind)
        modes = range(phases.output_Bn.shape[1])
        return [f"{instance},in{i}" for i in modes], [f"{instance},out{i}" for i in modes]

    def attenuated(self, scale: float, behind: str) -> str:
        """Add an attenuator, with a phase of pi for a negative scale; return the port behind it."""
        loss = DARK if scale == 0 else min(DARK, -20 * math.log10(abs(scale)))
        attenuator = self.cell.add(f"attenuator_{next(self.numbers)}", "attenuator", {"loss": loss})
        self.cell.connect(behind, f"{attenuator},in0")
        if scale >= 0:
            return f"{attenuator},out0"
        sign = self.cell.add(f"sign_{next(self.numbers)}", "phase_shifter", phase_shifter(math.pi))
        self.cell.connect(f"{attenuator},out0", f"{sign},in0")
        return f"{sign},out0"

    def blocks(self, outputs: int, inputs: int) -> tuple[list[str], list[str]]:
        """Add blocks along the longer side, and what splits to them or combines them."""
        if outputs == inputs:
            return self.block(outputs)
        size = min(outputs, inputs)
        whole, rest = divmod(max(outputs, inputs), size)
        parts = [self.block(size) for _ in range(whole)]
        if rest:
            sizes = (rest, inputs) if outputs > inputs else (outputs, rest)
            parts.append(self.blocks(*sizes))
        if outputs > inputs:
            entries = [self.divided(ports) for ports in zip(*(p[0] for p in parts), strict=True)]
            return entries, [port for part in parts for port in part[1]]
        exits = [
            self.divided(ports, backwards=True)
            for ports in zip(*(p[1] for p in parts), strict=True)
        ]
        return [port for part in parts for port in part[0]], exits

    def block(self, size: int) -> tuple[list[str], list[str]]:
        """Add the next block of a size."""
        number = next(self.next_block.setdefault(size, count()))
        scales = self.programme.settings[f"{self.prefix}.blocks{size}.attenuation"][number].tolist()
        if f"{self.prefix}.blocks{size}.theta" in self.programme.settings:
            inputs, behind = self.mesh(f"blocks{size}", number)
        else:
            wires = [self.cell.add(f"wire_{next(self.numbers)}", "attenuator") for _ in scales]
            inputs, behind = [f"{w},in0" for w in wires], [f"{w},out0" for w in wires]
        outputs = [self.attenuated(scale, b) for scale, b in zip(scales, behind, strict=True)]
        return inputs, outputs

    def divided(self, ports: Sequence[str], *, backwards: bool = False) -> str:
        """Split light to ports in equal shares, or backwards combine it; return the port for all.

        A chain of 1:2 splitters: the first sends 1/k of the power to the first port, the next
        1/(k - 1) of the rest to the second one.
        """
        *first, last = ports
        for left, port in enumerate(reversed(first), start=1):
            share = 1 / (left + 1)
            splitter = self.cell.add(
                f"splitter_{next(self.numbers)}", "splitter_ideal", {"coupling": share}
            )
            for one, other in ((f"{splitter},out1", port), (f"{splitter},out0", last)):
                self.cell.connect(*((other, one) if backwards else (one, other)))
            last = f"{splitter},in0"
        return last
