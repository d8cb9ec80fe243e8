"""Table I: accuracy and area of every scenario, dense and with the paper's layers approximated.

    python -m experiments.table1 [--verify] [--retrain] [--most-inputs 400000]

Reads ONNs and accuracies from the zoo; ``--verify`` recomputes the accuracies, ``--retrain`` trains
every ONN anew.
"""

from __future__ import annotations

from experiments.onn_table import PaperRow, run_table
from optinc.onn.design import TABLE1_APPROXIMATED

AREAS = {(8, 4): 39.3, (8, 8): 40.9, (8, 16): 40.4, (16, 4): 49.3}

ROWS = [
    PaperRow(bits=bits, servers=servers, layers=layers, accuracy=100, area=area)
    for (bits, servers), approximated in AREAS.items()
    for layers, area in (((), 100.0), (TABLE1_APPROXIMATED[bits, servers], approximated))
]

if __name__ == "__main__":
    run_table("table1", "Table I", ROWS, __doc__)
