"""Objects from configuration nodes, with OptINC's errors not wrapped into Hydra's."""

from __future__ import annotations

from typing import Any

import hydra
from hydra.errors import InstantiationException

from optinc.errors import OptINCError


def instantiate(node: Any, *args: Any, **kwargs: Any) -> Any:
    """Call :func:`hydra.utils.instantiate`, and unwrap errors of OptINC from Hydra's."""
    try:
        return hydra.utils.instantiate(node, *args, **kwargs)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OptINCError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None
