"""Gradients averaged by light on their way through the network (arXiv:2603.28290).

attach                   one line that lets a reducer average the gradients of any training
OptINCReducer            averages gradients [N, P] through an optical switch, in three lines
VirtualServersStrategy   Lightning: N servers on one device
OptINCDDPStrategy        Lightning: every server a process, Trainer(strategy="optinc_ddp")
BlockQuantizer           float gradients <-> fixed-point codes
make_scenario            bits, servers, ONN inputs and rounding of a switch
zoo                      trained and constructed ONNs: zoo.names(), zoo.load_named(name)

    reducer = optinc.OptINCReducer.from_zoo(bits=8, servers=4)
    mean = reducer(gradients)    # float [4, P] -> float [P]

On the command line: ``optinc --help``, or ``python run.py --help`` in a checkout.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optinc.attachments.attach import attach
    from optinc.onn import zoo
    from optinc.reducers.optinc import OptINCReducer
    from optinc.signal.block_quantizer import BlockQuantizer
    from optinc.signal.scenario import make_scenario
    from optinc.strategies.ddp import OptINCDDPStrategy
    from optinc.strategies.virtual_servers import VirtualServersStrategy

__version__ = "0.2.0"

__all__ = [
    "BlockQuantizer",
    "OptINCDDPStrategy",
    "OptINCReducer",
    "VirtualServersStrategy",
    "__version__",
    "attach",
    "make_scenario",
    "zoo",
]

_MODULES = {
    "BlockQuantizer": "optinc.signal.block_quantizer",
    "OptINCDDPStrategy": "optinc.strategies.ddp",
    "OptINCReducer": "optinc.reducers.optinc",
    "VirtualServersStrategy": "optinc.strategies.virtual_servers",
    "attach": "optinc.attachments.attach",
    "make_scenario": "optinc.signal.scenario",
    "zoo": "optinc.onn.zoo",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch and Lightning take seconds."""
    if name not in _MODULES:
        raise AttributeError(f"module 'optinc' has no attribute {name!r}")
    module = import_module(_MODULES[name])
    value = module if name == "zoo" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
