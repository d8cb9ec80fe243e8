"""Table II: selections of approximated layers in scenario 4 (16 bits, 4 servers).

    python -m experiments.table2 [--verify] [--retrain]

Reads ONNs and accuracies from the zoo; ``--verify`` recomputes the accuracies, ``--retrain`` trains
every ONN anew.
"""

from __future__ import annotations

from experiments.onn_table import PaperRow, run_table

PUBLISHED = [
    ((4, 5, 6), 100.0, "none", 49.3),
    ((4, 5, 6, 7), 99.99986, "±1 (90 %), -64 (10 %)", 47.9),
    ((4, 5, 6, 7, 8), 99.99999, "1024 (100 %)", 47.4),
    ((3, 4, 5, 6), 99.98891, "±1 (99 %), ±1024 (0.9 %), -4 (0.1 %)", 43.7),
    ((3, 4, 5, 6, 7), 99.99936, "±4 (79.5 %), -16 (17 %), 12 (3.5 %)", 42.2),
]

ROWS = [
    PaperRow(bits=16, servers=4, layers=layers, accuracy=accuracy, area=area, errors=errors)
    for layers, accuracy, errors, area in PUBLISHED
]

if __name__ == "__main__":
    run_table("table2", "Table II", ROWS, __doc__)
