r"""The smallest change of all weights that moves chosen outputs of an ONN by given amounts.

To first order output r moves by <J_r, change>, with the gradient J_r of the output in all weights.
The smallest change with <J_r, change> >= residual_r for all r, damped, is a sum of gradients,

    change = sum_r u_r J_r,   u = argmin 1/2 u^T K u + 1/(2 damping) |max(residual - K u, 0)|^2,

with the kernel K_rq = <J_r, J_q>. A gradient is never written out: that of a dense layer is an
outer product d h^T of the gradient d of its outputs and its signals h, so that

    K_rq = sum over layers of <d_r, d_q> (<h_r, h_q> + 1),

the 1 for the bias. The weights of a layer in Sigma U form (eq. 4) stay in it: of a block diag(s) U
the scales s and rotations exp(Omega) U change, Omega skew-symmetric. With g = U h and e = s d,

    K_rq = <d_r g_r, d_q g_q> + c (<e_r, e_q> <g_r, g_q> - <e_r, g_q> <g_r, e_q>),

the second term for the angles; c makes an angle count by how far it moves the weights.
"""

# Shape suffixes: R outputs that are to move, A of them active, m outputs and n inputs of a layer,
# s size of a block.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from optinc.onn.approximation import blocks_by_size, factorize, take_blocks
from optinc.onn.evaluation import BATCH_SIZE
from optinc.onn.network import OpticalNetwork

MOST_NEWTON_STEPS = 40
"""Semi-smooth Newton steps until the active outputs must have been found; 10 usually are enough."""


@dataclass(frozen=True)
class Wanted:
    """Outputs that are to move.

    Attributes:
        averages_RK: ONN inputs, float32 [R, K], in PAM4 amplitudes.
        output_R: 0-based numbers of the outputs, int64 [R].
        sign_R: 1 where the output is to rise, -1 where it is to fall, float32 [R].
        continued_R: Whether it is continued, bool [R], see :class:`OutputGradients`.
    """

    averages_RK: Tensor
    output_R: Tensor
    sign_R: Tensor
    continued_R: Tensor


class OutputGradients:
    """Gradients of outputs in all weights of a network, as factors, and their kernel.

    Where no neuron of a layer is lit, an output has no gradient in the layers before, and inputs
    that are all dark there can never be told apart. Where an output must move, the neuron that is
    nearest to being lit then counts as lit if its light helps; ``beyond_R`` says by how much the
    output, so continued, differs from what it is.

    Args:
        network: The network, on any device; not changed.
        wanted: The outputs.
        approximated_layers: 1-based numbers of the layers in Sigma U form, which keep it.

    Attributes:
        beyond_R: Continued minus true output, times its sign, float32 [R], in PAM4 amplitudes.
    """

    @torch.no_grad()
    def __init__(
        self, network: OpticalNetwork, wanted: Wanted, approximated_layers: Collection[int]
    ) -> None:
        parts = [
            _factors(network, Wanted(*part))
            for part in zip(
                torch.split(wanted.averages_RK, BATCH_SIZE),
                torch.split(wanted.output_R, BATCH_SIZE),
                torch.split(wanted.sign_R, BATCH_SIZE),
                torch.split(wanted.continued_R, BATCH_SIZE),
                strict=True,
            )
        ]
        self.beyond_R = torch.cat([beyond for _, beyond in parts])
        self._layers: list[_Layer] = []
        for i, linear in enumerate(network.linears):
            gradients_Rm = torch.cat([factors[i][0] for factors, _ in parts])
            signals_Rn = torch.cat([factors[i][1] for factors, _ in parts])
            form = _SigmaU if i + 1 in approximated_layers else _Dense
            self._layers.append(form(linear, gradients_Rm, signals_Rn))
        # A damping of 1 then weighs as much as a typical gradient.
        self._scale = sum(float(layer.squares().mean()) for layer in self._layers)
        self._columns_RA = self.beyond_R.new_zeros(len(self.beyond_R), 0, dtype=torch.float64)
        self._column: dict[int, int] = {}

    def columns(self, active_A: Tensor) -> Tensor:
        """Return columns of the kernel, float64 [R, A], each computed only once.

        Args:
            active_A: Their numbers, int64 [A].
        """
        numbers = active_A.tolist()
        new = torch.tensor(
            [r for r in numbers if r not in self._column], dtype=torch.int64, device=active_A.device
        )
        if len(new):
            # One layer after the other: together they would not fit.
            columns_RA = sum((layer.columns(new) for layer in self._layers), start=torch.zeros(()))
            for r in new.tolist():
                self._column[r] = len(self._column)
            self._columns_RA = torch.cat([self._columns_RA, columns_RA.double() / self._scale], 1)
        return self._columns_RA[:, [self._column[r] for r in numbers]]

    @torch.no_grad()
    def apply(self, shares_R: Tensor) -> None:
        """Change the network's weights by a sum of gradients, from what they were at the start.

        Args:
            shares_R: Share u of every gradient, float64 [R], as :func:`smallest_shares` returns.
        """
        active_A = shares_R.nonzero().squeeze(1)
        for layer in self._layers:
            layer.change(active_A, (shares_R[active_A] / self._scale).float())


def smallest_shares(
    gradients: OutputGradients, residual_R: Tensor, *, damping: float, start_R: Tensor
) -> Tensor:
    """Return the shares u of the gradients in the smallest change that moves outputs far enough.

    Args:
        gradients: Gradients of the outputs.
        residual_R: How far each output has to move at least, float64 [R], in PAM4 amplitudes;
            negative where it may move back.
        damping: Above 0; with more of it the change is smaller, and outputs move less.
        start_R: Shares to start from, float64 [R], such as those of another damping.

    Returns:
        float64 [R]; 0 where an output moves far enough by itself.
    """

    def moved(shares_R: Tensor) -> tuple[Tensor, float]:
        used_A = shares_R.nonzero().squeeze(1)
        missing_R = residual_R - gradients.columns(used_A) @ shares_R[used_A]
        size = shares_R @ (residual_R - missing_R)
        return missing_R, float(size / 2 + missing_R.clamp(min=0).square().sum() / (2 * damping))

    shares_R = start_R
    missing_R, value = moved(shares_R)
    for _ in range(MOST_NEWTON_STEPS):
        active_A = (missing_R > 0).nonzero().squeeze(1)
        kernel_AA = gradients.columns(active_A)[active_A]
        damped_AA = kernel_AA + damping * torch.eye(len(active_A)).to(kernel_AA)
        newton_R = torch.zeros_like(shares_R)
        newton_R[active_A] = torch.linalg.solve(damped_AA, residual_R[active_A])
        step = 1.0
        while True:
            tried_R = shares_R + step * (newton_R - shares_R)
            tried_missing_R, tried_value = moved(tried_R)
            if tried_value <= value * (1 + 1e-12) or step < 1e-3:
                break
            step /= 2
        same = bool(((tried_missing_R > 0) == (missing_R > 0)).all())
        shares_R, missing_R, value = tried_R, tried_missing_R, tried_value
        if step == 1 and same:
            break
    return shares_R


def _factors(network: OpticalNetwork, wanted: Wanted) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Return gradient [R, m] and signal [R, n] of every layer, and how far outputs are continued.

    The gradients are those of the outputs times their signs.
    """
    signals = [wanted.averages_RK * network.input_scale + network.input_offset]
    before: list[Tensor] = []
    for i, linear in enumerate(network.linears):
        if i:
            signals.append(before[-1].relu())
        before.append(linear(signals[-1]))
    gradient = torch.zeros_like(before[-1])
    gradient.scatter_(1, wanted.output_R[:, None], wanted.sign_R[:, None])
    gradient *= network.output_scale
    beyond_R = torch.zeros_like(wanted.sign_R)
    found = [(gradient, signals[-1])]
    for linear, values_Rm, signal in zip(
        reversed(network.linears[1:]), reversed(before[:-1]), reversed(signals[:-1]), strict=True
    ):
        gradient = gradient @ linear.weight
        lit_Rm = values_Rm > 0
        value_R, nearest_R = values_Rm.max(1)
        helps_R = gradient.gather(1, nearest_R[:, None]).squeeze(1) > 0
        continued_R = (value_R <= 0) & helps_R & wanted.continued_R
        lit_Rm[continued_R, nearest_R[continued_R]] = True
        gradient = gradient * lit_Rm
        beyond_R += torch.where(continued_R, (gradient * values_Rm).sum(1), 0.0)
        found.append((gradient, signal))
    return found[::-1], beyond_R


class _Layer(ABC):
    """A layer's part of the gradients, with its weights at the start.

    Args:
        linear: The layer.
        gradients_Rm: Gradients d of its outputs.
        signals_Rn: Its inputs h.
    """

    def __init__(self, linear: nn.Linear, gradients_Rm: Tensor, signals_Rn: Tensor) -> None:
        self.linear = linear
        self.gradients_Rm = gradients_Rm
        self.signals_Rn = signals_Rn
        self.weight_mn = linear.weight.detach().clone()
        self.bias_m = linear.bias.detach().clone()

    def squares(self) -> Tensor:
        """Return the diagonal of the kernel, float32 [R]."""
        bias_R = self.gradients_Rm.square().sum(1)
        return bias_R + self._weight_squares()

    def columns(self, active_A: Tensor) -> Tensor:
        """Return columns of the kernel, float32 [R, A]."""
        bias_RA = self.gradients_Rm @ self.gradients_Rm[active_A].T
        return bias_RA + self._weight_columns(active_A)

    def change(self, active_A: Tensor, shares_A: Tensor) -> None:
        """Set weights and bias to those at the start plus a sum of gradients."""
        self.linear.bias.copy_(self.bias_m + self.gradients_Rm[active_A].T @ shares_A)
        self.linear.weight.copy_(self._changed(active_A, shares_A))

    @abstractmethod
    def _weight_squares(self) -> Tensor:
        """Return the weight's part of the diagonal, float32 [R]."""

    @abstractmethod
    def _weight_columns(self, active_A: Tensor) -> Tensor:
        """Return the weight's part of columns of the kernel, float32 [R, A]."""

    @abstractmethod
    def _changed(self, active_A: Tensor, shares_A: Tensor) -> Tensor:
        """Return the weight plus a sum of gradients, float32 [m, n]."""


class _Dense(_Layer):
    """All weights of a layer change."""

    def _weight_squares(self) -> Tensor:
        return self.gradients_Rm.square().sum(1) * self.signals_Rn.square().sum(1)

    def _weight_columns(self, active_A: Tensor) -> Tensor:
        gradients_RA = self.gradients_Rm @ self.gradients_Rm[active_A].T
        return gradients_RA * (self.signals_Rn @ self.signals_Rn[active_A].T)

    def _changed(self, active_A: Tensor, shares_A: Tensor) -> Tensor:
        gradients_Am = self.gradients_Rm[active_A] * shares_A[:, None]
        return self.weight_mn + gradients_Am.T @ self.signals_Rn[active_A]


class _SigmaU(_Layer):
    """Scales and rotations of a layer's blocks change."""

    def __init__(self, linear: nn.Linear, gradients_Rm: Tensor, signals_Rn: Tensor) -> None:
        super().__init__(linear, gradients_Rm, signals_Rn)
        self._blocks: list[_Factored] = []
        for blocks in blocks_by_size(*linear.weight.shape).values():
            scales, unitaries = factorize(take_blocks(self.weight_mn, blocks))
            for block, scale_s, unitary_ss in zip(blocks, scales, unitaries, strict=True):
                rows = slice(block.row, block.row + block.size)
                columns = slice(block.column, block.column + block.size)
                gradient_Rs = gradients_Rm[:, rows]
                self._blocks.append(
                    _Factored(
                        block_rows_columns=(rows, columns),
                        scale_s=scale_s,
                        unitary_ss=unitary_ss,
                        gradient_Rs=gradient_Rs,
                        rotated_Rs=signals_Rn[:, columns] @ unitary_ss.T,
                        scaled_Rs=gradient_Rs * scale_s,
                        weight=float(1 / (2 * scale_s.square().mean()).clamp(min=1e-30)),
                    )
                )

    def _weight_squares(self) -> Tensor:
        return sum((each.squares() for each in self._blocks), start=torch.zeros(()))

    def _weight_columns(self, active_A: Tensor) -> Tensor:
        return sum((each.columns(active_A) for each in self._blocks), start=torch.zeros(()))

    def _changed(self, active_A: Tensor, shares_A: Tensor) -> Tensor:
        changed_mn = self.weight_mn.clone()
        for each in self._blocks:
            changed_mn[each.block_rows_columns] = each.changed(active_A, shares_A)
        return changed_mn


@dataclass(frozen=True)
class _Factored:
    """A block diag(s) U with its part of the gradients.

    Attributes:
        block_rows_columns: Where it lies.
        scale_s: Scales.
        unitary_ss: U.
        gradient_Rs: d.
        rotated_Rs: g = U h.
        scaled_Rs: e = s d.
        weight: c, 1 over twice the mean square of the scales.
    """

    block_rows_columns: tuple[slice, slice]
    scale_s: Tensor
    unitary_ss: Tensor
    gradient_Rs: Tensor
    rotated_Rs: Tensor
    scaled_Rs: Tensor
    weight: float

    def squares(self) -> Tensor:
        """Return the diagonal of the kernel, float32 [R]."""
        scales_R = (self.gradient_Rs * self.rotated_Rs).square().sum(1)
        both_R = self.scaled_Rs.square().sum(1) * self.rotated_Rs.square().sum(1)
        cross_R = (self.scaled_Rs * self.rotated_Rs).sum(1).square()
        return scales_R + self.weight * (both_R - cross_R)

    def columns(self, active_A: Tensor) -> Tensor:
        """Return columns of the kernel, float32 [R, A]."""
        scales_Rs = self.gradient_Rs * self.rotated_Rs
        scaled_As, rotated_As = self.scaled_Rs[active_A], self.rotated_Rs[active_A]
        both_RA = (self.scaled_Rs @ scaled_As.T) * (self.rotated_Rs @ rotated_As.T)
        cross_RA = (self.scaled_Rs @ rotated_As.T) * (self.rotated_Rs @ scaled_As.T)
        return scales_Rs @ scales_Rs[active_A].T + self.weight * (both_RA - cross_RA)

    def changed(self, active_A: Tensor, shares_A: Tensor) -> Tensor:
        """Return diag(s + change) exp(Omega) U, float32 [s, s]."""
        rotated_As = self.rotated_Rs[active_A]
        scale_s = self.scale_s + shares_A @ (self.gradient_Rs[active_A] * rotated_As)
        half_ss = (self.scaled_Rs[active_A] * shares_A[:, None]).T @ rotated_As
        omega_ss = self.weight * (half_ss - half_ss.T)
        rotated_ss: Tensor = torch.linalg.matrix_exp(omega_ss) @ self.unitary_ss
        return scale_s[:, None] * rotated_ss
