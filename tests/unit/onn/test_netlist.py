"""Netlists of layers, simulated by sax from its own models.

Covers: optinc.photonics.netlist
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optinc.onn.mesh_settings import MeshProgramme, map_onn, transfer_matrix
from optinc.onn.netlist import MODELS, layer_netlist
from optinc.onn.zoo import load_named
from optinc.photonics.chip_settings import Shifters
from optinc.photonics.netlist import Netlist
from tests.processes import ROOT

SIMULATION = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import sax
example, cases, models = json.load(sys.stdin)
exec(example)
for netlist, inputs, outputs, expected in cases:
    circuit, _ = sax.circuit(netlist, {name: getattr(sax.models, name) for name in models})
    scattering = sax.sdict(circuit())
    played = [
        [complex(np.ravel(scattering[f"in{j}", f"out{i}"])[0]) for j in range(inputs)]
        for i in range(outputs)
    ]
    real, imaginary = np.array(expected)
    print(np.abs(np.array(played) - real - 1j * imaginary).max())
"""
"""In a process of its own: jax starts threads, after which no process should be forked."""


def case(programme: MeshProgramme, index: int) -> tuple[Netlist, int, int, list[object]]:
    """A layer's netlist, its inputs and outputs, and real and imaginary parts of its transfer."""
    layer = programme.layers[index]
    inputs = layer.inputs + (layer.bias == "port")
    transfer = transfer_matrix(programme, index)[:, :inputs].numpy()
    netlist = layer_netlist(programme, index)
    return netlist, inputs, layer.outputs, [transfer.real.tolist(), transfer.imag.tolist()]


def example_of_the_documents() -> str:
    """The example of docs/photonics.md."""
    text = (ROOT / "docs" / "photonics.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return str(example)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("sax") is None, reason="sax is not installed: optinc[photonics]"
)
def test_sax_simulates_the_transfer_matrices() -> None:
    smallest, robust = (load_named(f"b8_n4_half_even_{name}") for name in ("smallest", "robust"))
    cases = [
        case(map_onn(smallest, shifters="one_arm"), 5),  # 5 x 7 and a bias port
        case(map_onn(smallest), 6),  # 4 x 5, a block of 4 x 4 and four of 1 x 1
        case(map_onn(robust), 11),  # diagonal
    ]
    result = subprocess.run(
        [sys.executable, "-c", SIMULATION],
        input=json.dumps([example_of_the_documents(), cases, MODELS]),
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    example, *differences = result.stdout.splitlines()
    simulated, expected = (complex(number) for number in re.findall(r"\(.*?\)", example))
    assert abs(simulated - expected) < 1e-12
    errors = [float(line) for line in differences]
    assert len(errors) == len(cases)
    assert max(errors) < 1e-12


def play(netlist: Netlist, name: str) -> dict[tuple[str, str], complex]:
    """Follow light through a feed-forward cell, instance by instance: amplitudes from in to out."""
    cell = netlist[name]
    before = cell["connections"]
    exits = {port: name for name, port in cell["ports"].items() if name.startswith("out")}
    played: dict[str, dict[tuple[str, str], complex]] = {}
    for instance, entry in cell["instances"].items():
        played[instance] = part(netlist, entry["component"], entry["settings"])
    found: dict[tuple[str, str], complex] = {}

    def follow(source: str, port: str, amplitude: complex) -> None:
        instance, entry = port.split(",")
        for (start, end), factor in played[instance].items():
            if start == entry:
                behind = f"{instance},{end}"
                if behind in exits:
                    key = source, exits[behind]
                    found[key] = found.get(key, 0) + amplitude * factor
                if behind in before:
                    follow(source, before[behind], amplitude * factor)

    for source, port in cell["ports"].items():
        if source.startswith("in"):
            follow(source, port, 1.0)
    return found


def part(
    netlist: Netlist, component: str, settings: dict[str, object]
) -> dict[tuple[str, str], complex]:
    """Amplitudes of a component of sax, forwards and for splitters backwards, from its formulas."""
    if component in netlist:
        cell = json.loads(json.dumps(netlist[component]))
        for instance, changed in settings.items():
            cell["instances"][instance]["settings"] |= changed
        return play(netlist | {component: cell}, component)
    if component == "coupler_ideal":
        through, across = np.sqrt(1 - settings["coupling"]), 1j * np.sqrt(settings["coupling"])
        straight = {("in0", "out0"): through, ("in1", "out1"): through}
        return straight | {("in0", "out1"): across, ("in1", "out0"): across}
    if component == "phase_shifter":
        assert settings["length"] == 0
        return {("in0", "out0"): np.exp(1j * np.pi * settings["voltage"])}
    if component == "attenuator":
        return {("in0", "out0"): 10 ** (-settings.get("loss", 0.0) / 20)}
    assert component == "splitter_ideal"
    first, second = np.sqrt(1 - settings["coupling"]), np.sqrt(settings["coupling"])
    forwards = {("in0", "out0"): first, ("in0", "out1"): second}
    return forwards | {(end, start): value for (start, end), value in forwards.items()}


@pytest.mark.parametrize(
    ("name", "shifters", "index"),
    [
        ("smallest", "push_pull", 6),  # 4 x 5: a block of 4 x 4 and four of 1 x 1
        ("smallest", "one_arm", 6),
        ("robust", "push_pull", 11),  # diagonal
    ],
)
def test_light_followed_through_the_netlist_arrives_as_the_transfer_matrix_says(
    name: str, shifters: Shifters, index: int
) -> None:
    """The formulas of sax's models, without sax."""
    programme = map_onn(load_named(f"b8_n4_half_even_{name}"), shifters=shifters)
    netlist, inputs, outputs, (real, imaginary) = case(programme, index)
    found = play(netlist, next(iter(netlist)))
    played = np.array(
        [[found.get((f"in{j}", f"out{i}"), 0) for j in range(inputs)] for i in range(outputs)]
    )
    assert np.abs(played - np.array(real) - 1j * np.array(imaginary)).max() < 1e-12


def test_a_netlist_counts_the_parts_that_are_built() -> None:
    programme = map_onn(load_named("b8_n4_half_even_smallest"))
    netlist = layer_netlist(programme, 6)
    layer, parts = programme.layers[6], programme.layers[6].parts
    used = [
        instance["component"]
        for cell in netlist.values()
        for instance in cell["instances"].values()
    ]
    reference_beam = (layer.outputs - 1) + layer.outputs
    assert used.count("splitter_ideal") == parts.splitters + parts.combiners - reference_beam
    interferometers = used.count("mzi_push_pull") + used.count("attenuator")
    assert interferometers == parts.built_mzis - layer.outputs


def test_a_netlist_is_json(tmp_path: Path) -> None:
    netlist = layer_netlist(map_onn(load_named("b8_n4_half_even_smallest")), 0)
    (tmp_path / "layer.json").write_text(json.dumps(netlist, allow_nan=False))
    assert json.loads((tmp_path / "layer.json").read_text()) == netlist
    assert set(MODELS) >= {
        instance["component"]
        for cell in netlist.values()
        for instance in cell["instances"].values()
        if instance["component"] not in netlist
    }
