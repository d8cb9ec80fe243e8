"""The default reducer: a shipped ONN with enough inputs."""

from __future__ import annotations

from optinc.errors import ConfigurationError
from optinc.onn import zoo
from optinc.onn.design import in_cascade
from optinc.reducers.optinc import OptINCReducer

DEFAULT_BITS = 8
"""Bits of the codes of :func:`default_reducer`."""


def default_reducer(servers: int) -> OptINCReducer:
    """Return a reducer with the shipped 8-bit ONN of the smallest sufficient fan-in.

    Raises:
        ConfigurationError: If no shipped ONN has a sufficient fan-in.
    """
    cards = [card for card in map(zoo.card, zoo.names()) if not in_cascade(card.scenario)]
    cards = [card for card in cards if not card.scenario.returns_sum]
    fan_ins = sorted({card.servers for card in cards if card.bits == DEFAULT_BITS})
    fitting = [fan_in for fan_in in fan_ins if fan_in >= servers]
    if not fitting:
        raise ConfigurationError(
            f"no shipped ONN of {DEFAULT_BITS} bits serves {servers} servers (at most "
            f"{fan_ins[-1]}); pass a reducer of your own"
        )
    return OptINCReducer.from_zoo(bits=DEFAULT_BITS, servers=fitting[0])


def dark_inputs(reducer: OptINCReducer) -> str | None:
    """Return a warning if dark inputs make averages coarser, None if not.

    They do where fewer servers are connected than the switch has inputs, unless the whole sum comes
    back.
    """
    fan_in, servers = reducer.switch.scenario.servers, reducer.servers
    if fan_in == servers or reducer.switch.scenario.returns_sum:
        return None
    return (
        f"{servers} servers on a switch with optinc.servers={fan_in} inputs: the other inputs are "
        f"dark, and averages {fan_in / servers:g} times as coarse"
    )
