"""Float gradients <-> B-bit codes with one scale per block, shared by all servers (Sec. IV).

Codes are offset binary around ``zero = 2^(B-1)``: equal servers sending zero average to ``zero``
under every rounding, and ``zero`` decodes to exactly 0.0. With ``qmax = 2^(B-1) - 1``,

    code = zero + round((g / scale) * qmax),    g = ((code - zero) / qmax) * scale,

computed in float32 in exactly this order. Dividing by the scale first keeps denormal blocks
finite, multiplying by it last returns the largest value of a block unchanged, and one fixed order
lets every accelerated path be compared with this one bit for bit, ties included.
"""

# Shape suffixes: N servers, P gradient values, B blocks.

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Literal, get_args

import torch
from torch import Tensor

from optinc.errors import ConfigurationError
from optinc.signal import bfloat16
from optinc.signal.randomness import WORD, uniforms
from optinc.signal.rounding import (
    SenderRounding,
    check_sender_rounding,
    round_at_random,
    round_to_integer,
)

NonFinitePolicy = Literal["raise", "skip_step", "propagate"]
BlockBorders = Literal["parameter", "flat"]
ScaleDtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class BlockQuantizer:
    """Block quantiser in the manner of SwitchML.

    Args:
        bits: Bits B of a code; even, 2 to 16.
        block_size: Gradient values that share a scale.
        rounding: How a server rounds a value to a code (not Q of eq. (3), the switch's rounding);
            ``stochastic`` rounds up with the probability of the fraction.
        nonfinite: What a reducer does about NaN or infinity: ``raise`` an error, ``skip_step``,
            or ``propagate`` (the block, and only it, becomes NaN).
        blocks: Where blocks end in a gradient whose parameters a reducer knows: at the borders of
            every ``parameter``, or only after ``block_size`` values (``flat``).
        seed: Seed of stochastic rounding, 0 to 2^32 - 1.
        scale_dtype: What a block's scale is sent as. ``bfloat16`` takes 2 bytes in place of 4: the
            largest magnitude is rounded up (:mod:`optinc.signal.bfloat16`), so that no value
            exceeds the codes, and steps are up to 2^-7 longer. A magnitude above
            :attr:`largest` then counts as infinite.

    Raises:
        ConfigurationError: If a value is illegal; names the setting and the legal values.

    Example:
        The scale of a block is its largest absolute value on any server; 128 codes zero.

        >>> import torch
        >>> from optinc import BlockQuantizer
        >>> quantizer = BlockQuantizer(bits=8)
        >>> gradients = torch.tensor([[0.5, -0.25, 0.0], [-1.0, 0.1, 0.0]])  # two servers
        >>> scales = quantizer.scales(gradients)
        >>> codes = quantizer.encode(gradients, scales)
        >>> codes
        tensor([[192,  96, 128],
                [  1, 141, 128]], dtype=torch.int32)
        >>> quantizer.decode(codes[0], scales)
        tensor([ 0.5039, -0.2520,  0.0000])
    """

    bits: int
    block_size: int = 256
    rounding: SenderRounding = "half_even"
    nonfinite: NonFinitePolicy = "raise"
    blocks: BlockBorders = "parameter"
    seed: int = 0
    scale_dtype: ScaleDtype = "float32"

    def __post_init__(self) -> None:
        if self.bits not in range(2, 17, 2):
            raise ConfigurationError(f"optinc.bits must be even, 2 to 16, got {self.bits}")
        if self.block_size < 1:
            raise ConfigurationError(
                f"optinc.quantization.block_size must be at least 1, got {self.block_size}"
            )
        check_sender_rounding(self.rounding, setting="optinc.quantization.rounding")
        policies = get_args(NonFinitePolicy)
        if self.nonfinite not in policies:
            raise ConfigurationError(
                f"optinc.quantization.nonfinite must be {' | '.join(policies)}, "
                f"got {self.nonfinite!r}"
            )
        check_borders(self.blocks)
        check_seed(self.seed, setting="optinc.quantization.seed")
        dtypes = get_args(ScaleDtype)
        if self.scale_dtype not in dtypes:
            raise ConfigurationError(
                f"optinc.quantization.scale_dtype must be {' | '.join(dtypes)}, "
                f"got {self.scale_dtype!r}"
            )

    @property
    def alignment(self) -> int:
        """Multiple at which every parameter begins in a gradient, so that no block reaches over."""
        return self.block_size if self.blocks == "parameter" else 1

    @property
    def zero(self) -> int:
        """Code of the value 0.0."""
        return int(2 ** (self.bits - 1))

    @property
    def qmax(self) -> int:
        """Largest distance of a code from :attr:`zero`."""
        return self.zero - 1

    @property
    def scale_bytes(self) -> int:
        """Bytes of a block's scale on the wire."""
        return 4 if self.scale_dtype == "float32" else 2

    @property
    def largest(self) -> float:
        """Largest finite magnitude that a scale holds; larger ones count as infinite."""
        return torch.finfo(getattr(torch, self.scale_dtype)).max

    def scales(self, gradients_NP: Tensor) -> Tensor:
        """Return the largest absolute value of each block over all servers, rounded to a scale.

        Args:
            gradients_NP: Float tensor [N, P], any P including 0.

        Returns:
            float32 tensor [ceil(P / block_size)]; NaN or infinite where a block holds such a value,
            or one above :attr:`largest`.
        """
        servers, values = gradients_NP.shape
        whole = values // self.block_size * self.block_size
        parts = [gradients_NP[:, :whole].view(servers, -1, self.block_size)]
        if whole < values:
            parts.append(gradients_NP[:, whole:].unsqueeze(1))
        # Two reductions without a copy; torch's infinity norm and aminmax are 8 times slower.
        scales = [
            torch.maximum(part.amax(2), part.amin(2).neg_()).amax(0)
            for part in parts
            if part.numel()
        ]
        if not scales:
            return gradients_NP.new_empty(0, dtype=torch.float32)
        # Zeros may be negative, and decoding would hand their sign on.
        scales_B = torch.cat(scales).to(torch.float32).abs_()
        return scales_B if self.scale_dtype == "float32" else bfloat16.round_up(scales_B)

    def encode(
        self,
        gradients_NP: Tensor,
        scales_B: Tensor,
        *,
        reduction: int | None = None,
        first: int | Tensor = 0,
        server: int = 0,
    ) -> Tensor:
        """Quantise gradients of consecutive servers.

        Args:
            gradients_NP: Float tensor [N, P], a row a server.
            scales_B: float32 tensor [ceil(P / block_size)] from :meth:`scales`.
            reduction: Number of the reduction; stochastic rounding needs it, and depends on it and
                on the next two.
            first: Position of the first value in the whole gradient; of whole blocks, those of
                the first value of each of them, int64 tensor [B] on the CPU.
            server: Rank of the server whose gradient is the first row.

        Returns:
            int32 tensor [N, P], codes 1 to 2^B - 1. Blocks whose scale is not finite hold ``zero``,
            as an integer cast of NaN is undefined.

        Raises:
            ValueError: If stochastic rounding is not told the number of the reduction.
        """
        usable_B = torch.isfinite(scales_B) & (scales_B > 0)
        divisor_P = self._expand(scales_B.where(usable_B, torch.inf), gradients_NP.shape[1])
        values_NP = (gradients_NP.to(torch.float32) / divisor_P).mul_(self.qmax)
        if not usable_B.all():
            # A non-finite value over an infinite divisor is NaN; a finite one is zero.
            values_NP.nan_to_num_(nan=0.0)
        if self.rounding == "stochastic":
            drawn = self._uniforms(values_NP, reduction=reduction, first=first, server=server)
            values_NP = round_at_random(values_NP, drawn)
        else:
            values_NP = round_to_integer(values_NP, self.rounding)
        return values_NP.add_(self.zero).to(torch.int32)

    def decode(
        self, codes_P: Tensor, scales_B: Tensor, *, fan_in: int = 1, servers: int = 1
    ) -> Tensor:
        """Turn codes back into gradients.

        Args:
            codes_P: Integer tensor [P].
            scales_B: float32 tensor [ceil(P / block_size)].
            fan_in: Inputs of the switch that averaged the codes; only the ratio to ``servers``
                matters.
            servers: How many of them had a server. The others were dark, so a code is
                ``servers / fan_in`` of the mean over servers, and is rescaled to that mean.

        Returns:
            float32 tensor [P]; NaN in every block whose scale is not finite.
        """
        scales_B = scales_B.where(torch.isfinite(scales_B), torch.nan)
        shared = gcd(fan_in, servers)
        fan_in, servers = fan_in // shared, servers // shared
        steps_P = (codes_P * fan_in - self.zero * servers).to(torch.float32)
        # A number, where a tensor on the device stands, would make CUDA multiply by its reciprocal.
        divisor = torch.tensor(self.qmax * servers, dtype=torch.float32, device=steps_P.device)
        return steps_P.div_(divisor).mul_(self._expand(scales_B, codes_P.shape[0]))

    def _uniforms(
        self, values_NP: Tensor, *, reduction: int | None, first: int | Tensor, server: int
    ) -> Tensor:
        """Return a uniform number for each value, independent from server to server: [N, P]."""
        if reduction is None:
            raise ValueError("stochastic rounding depends on the reduction: give its number")
        servers, values = values_NP.shape
        firsts_B, length = (
            (first, self.block_size)
            if isinstance(first, Tensor)
            else (torch.tensor([first]), values)
        )
        rows = [
            uniforms(firsts_B, length, seed=self.seed, reduction=reduction, stream=stream).flatten()
            for stream in range(server + 1, server + 1 + servers)
        ]
        return torch.stack(rows).to(values_NP.device)

    def _expand(self, scales_B: Tensor, values: int) -> Tensor:
        """Repeat each block's scale for its values: [B] -> [P]."""
        return scales_B.repeat_interleave(self.block_size)[:values]


def check_borders(blocks: str) -> None:
    """Refuse an unknown rule of where blocks end.

    Raises:
        ConfigurationError: Names the setting and the legal values.
    """
    if blocks not in get_args(BlockBorders):
        raise ConfigurationError(
            f"optinc.quantization.blocks must be {' | '.join(get_args(BlockBorders))}, "
            f"got {blocks!r}"
        )


def check_seed(seed: int, *, setting: str) -> None:
    """Refuse a seed that is no 32-bit word of a key.

    Raises:
        ConfigurationError: Names the setting and the legal values.
    """
    if not 0 <= seed <= WORD:
        raise ConfigurationError(f"{setting} must be 0 to 2^32 - 1, got {seed}")
