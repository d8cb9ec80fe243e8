"""The ONNs of a cascade evaluated together: analog outputs of a level feed the next one (Fig. 5).

No receiver stands between the levels, so analog errors of one level reach the next.
"""

# Shape suffixes: N servers or switches, P gradient values, M symbols, K ONN inputs.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from optinc.onn.dataset import samples_of_index
from optinc.onn.evaluation import Evaluation, Tally, index_batches
from optinc.onn.progress import with_bar
from optinc.signal import outputs, pam4, preprocessing
from optinc.signal.scenario import Scenario
from optinc.signal.tree import Tree

BATCH_SIZE = 1 << 15
"""Inputs of a cascade that are evaluated at once."""

MOST_RESPONSES = 1 << 22
"""Largest number of inputs of a first level whose outputs are computed once and looked up."""


def propagate(
    networks: Sequence[nn.Module], levels: Sequence[Scenario], signals_NPM: Tensor
) -> Tensor:
    """Send signals up through the levels of a cascade.

    Args:
        networks: One network for each level crossed; maps averages [P, K] to outputs [P, M] in PAM4
            amplitudes.
        levels: The switches of these levels; further ones are ignored.
        signals_NPM: Signals of the servers or of the level below, float [n, P, M], in PAM4
            amplitudes.

    Returns:
        The analog outputs of the last level crossed, float [switches, P, M].
    """
    for network, scenario in zip(networks, levels, strict=False):
        parts = torch.split(signals_NPM, scenario.servers)
        averages = [preprocessing.average_signals(part, scenario) for part in parts]
        signals_NPM = network(torch.stack(averages))
    return signals_NPM


class AnalogCascade:
    """The networks of a cascade, or of its lower levels, evaluated together.

    Args:
        networks: One network for each level, from the servers on; may be fewer than the levels.
        tree: The cascade.
    """

    def __init__(self, networks: Sequence[nn.Module], tree: Tree) -> None:
        self.networks = list(networks)
        self.tree = tree
        first = tree.levels[0]
        looked_up = bool(networks) and tree.depth > 1 and first.combinations <= MOST_RESPONSES
        self._device = next(self.networks[0].parameters()).device if networks else None
        self._responses = respond(self.networks[0], first) if looked_up else None
        self._index = preprocessing.index_of_code(first).to(self._device) if looked_up else None

    def __call__(self, codes_NP: Tensor) -> Tensor:
        """Return the analog outputs of the top: int [connected, P] -> float32 [P, M]."""
        return self.signals(codes_NP)[0]

    @torch.no_grad()
    def signals(self, codes_NP: Tensor) -> Tensor:
        """Return the analog outputs of the last level: int [connected, P] -> float [n, P, M].

        Args:
            codes_NP: Codes of all connected servers, on any device.

        Returns:
            Outputs of its n switches in PAM4 amplitudes, on the device of the networks.
        """
        codes_NP = codes_NP.to(self._device)
        if self._responses is None or self._index is None:
            symbols_NPM = pam4.encode(codes_NP, symbols=self.tree.symbols).to(torch.float32)
            return propagate(self.networks, self.tree.levels, symbols_NPM)
        index_NP = self._index[codes_NP.long()]
        parts = torch.split(index_NP, self.tree.fan_in)
        signals_NPM = torch.stack([self._responses[part.sum(0)] for part in parts])
        return propagate(self.networks[1:], self.tree.levels[1:], signals_NPM)


@torch.no_grad()
def respond(network: nn.Module, scenario: Scenario) -> Tensor:
    """Return the analog outputs for all possible inputs, by index: float32 [combinations, M]."""
    device = next(network.parameters()).device
    responses = torch.empty(scenario.combinations, scenario.received_symbols, device=device)
    for index in index_batches(scenario.combinations, device=device, progress=None):
        responses[index] = network(samples_of_index(index, scenario).averages_PK)
    return responses


def random_codes(tree: Tree, *, samples: int, seed: int) -> Iterator[Tensor]:
    """Yield random codes of all servers, int32 [connected, P], ``samples`` in all."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, samples, BATCH_SIZE):
        size = (tree.connected, min(BATCH_SIZE, samples - start))
        yield torch.randint(2**tree.bits, size, generator=generator, dtype=torch.int32)


def carry_chains(tree: Tree) -> Iterator[Tensor]:
    """Yield the worst cases of carries in a cascade, int32 [connected, P].

    For every code c and every n, n servers send c + 1 and the others c. The last symbol of a few
    servers decides whether the average rounds up, and with c = a 4^j - 1 the carry runs through j
    symbols. The n servers stand side by side, or spread over all switches.
    """
    servers, codes = tree.connected, 2**tree.bits - 1
    rank = torch.arange(servers)
    # Successive servers of this order stand on different switches.
    spread = torch.argsort(torch.argsort(rank % tree.fan_in * servers + rank // tree.fan_in))
    orders = torch.stack([rank, spread])
    count = codes * (servers + 1)
    for start in range(0, count, BATCH_SIZE):
        flat = torch.arange(start, min(start + BATCH_SIZE, count))
        base, more = flat // (servers + 1), flat % (servers + 1)
        for order in orders:
            yield (base + (order[:, None] < more)).to(torch.int32)


@torch.no_grad()
def evaluate_cascade(
    cascade: AnalogCascade,
    batches: Iterator[Tensor],
    *,
    total: int,
    title: str | None = None,
    on_batch: Callable[[Tensor, Tensor], None] | None = None,
) -> Evaluation:
    """Evaluate a cascade without any rounding between its levels.

    Args:
        cascade: The networks of all levels.
        batches: Codes of all servers, int32 [connected, P], on the CPU.
        total: Number of inputs in all batches.
        title: Title of a progress bar; None for no bar.
        on_batch: Called with the codes of every batch and their smallest margins, float [P].
    """
    tree, tally = cascade.tree, Tally()
    for codes_NP in with_bar(batches, title, total=total / BATCH_SIZE):
        amplitudes_PM = cascade(codes_NP).cpu()
        code_P = outputs.ideal_average(codes_NP, tree.whole)
        symbols_PM = pam4.encode(code_P, symbols=tree.whole.received_symbols)
        margin_P = outputs.threshold_margin(amplitudes_PM, symbols_PM, tree.levels[-1]).amin(-1)
        if on_batch is not None:
            on_batch(codes_NP, margin_P)
        tally.add(margin_P, pam4.decode(pam4.receive(amplitudes_PM)) - code_P)
    return tally.evaluation(combinations=total)


def count_carry_chains(tree: Tree) -> int:
    """Return the number of inputs that :func:`carry_chains` yields."""
    codes: int = 2**tree.bits - 1
    return 2 * codes * (tree.connected + 1)
