"""Time of a reduction against the exact mean, side by side in one run.

    python -m benchmarks.reduce [--values 23528522] [--servers 4] [--repeats 5]

The default is the flat gradient of ResNet50 with ten classes.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from optinc.onn import zoo
from optinc.reducers.base import Reducer
from optinc.reducers.optinc import OptINCReducer
from optinc.reducers.ring import RingReducer
from optinc.signal.block_quantizer import BlockQuantizer
from optinc.signal.scenario import DEFAULT_ROUNDING, make_scenario
from optinc.switch import IdealSwitch, ONNSwitch, TableSwitch

ONN_VALUES = 200_000
"""The network itself is timed on fewer values: it takes microseconds for each."""


def main() -> None:
    """Print seconds, nanoseconds per value and the ratio to the exact mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=23_528_522)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    scenario = make_scenario(
        bits=8, servers=arguments.servers, inputs="auto", rounding=DEFAULT_ROUNDING
    )
    onn = zoo.load(None, scenario=scenario, hidden="table1", layers="all")
    quantizer = BlockQuantizer(bits=8)
    reducers: dict[str, Reducer] = {
        "ring (exact mean)": RingReducer(servers=arguments.servers),
        "optinc, ideal": OptINCReducer(quantizer=quantizer, switch=IdealSwitch(scenario)),
        "optinc, table": OptINCReducer(quantizer=quantizer, switch=TableSwitch(onn)),
        "optinc, onn": OptINCReducer(quantizer=quantizer, switch=ONNSwitch(onn)),
    }
    gradients = torch.randn(arguments.servers, arguments.values)
    table = Table(title=f"{arguments.servers} servers, {torch.get_num_threads()} threads")
    for heading in ("reducer", "values", "ns per value", "ratio to exact mean"):
        table.add_column(heading, justify="left" if heading == "reducer" else "right")
    exact = 0.0
    for name, reducer in reducers.items():
        values = min(arguments.values, ONN_VALUES) if name.endswith("onn") else arguments.values
        nanoseconds = measure(reducer, gradients[:, :values], repeats=arguments.repeats)
        exact = exact or nanoseconds
        table.add_row(name, f"{values:,}", f"{nanoseconds:.1f}", f"{nanoseconds / exact:.1f}")
    Console().print(table)


def measure(reducer: Reducer, gradients: torch.Tensor, *, repeats: int) -> float:
    """Return the median time of a reduction in ns per value, after one that warms up."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        reducer(gradients)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]) / gradients.shape[1] * 1e9


if __name__ == "__main__":
    main()
