"""Try an installed optinc: import every module of it, then train the demo through the ONN.

    cd ELSEWHERE && python CHECKOUT/.ci/try_wheel.py

Run it where nothing of the extras is installed. The run's folder is ``demo``.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import optinc


def main() -> None:
    """Import, train, and compare with what the README promises."""
    package = Path(optinc.__file__).parent
    if (package.parent / "pyproject.toml").exists():
        raise SystemExit(f"{package} is a checkout; install the wheel, and start elsewhere")
    names = [module.name for module in pkgutil.walk_packages([str(package)], "optinc.")]
    for name in names:
        importlib.import_module(name)
    print(f"imported {len(names)} modules of {package}", flush=True)
    subprocess.run(
        [sys.executable, "-m", "optinc", "experiment=demo", "hydra.run.dir=demo"], check=True
    )
    accuracy = json.loads(Path("demo/summary.json").read_text(encoding="utf-8"))["val_acc"]
    if accuracy <= 0.9:
        raise SystemExit(f"the demo ends at {accuracy:.1%} of the digits; 95 % were expected")


if __name__ == "__main__":
    main()
