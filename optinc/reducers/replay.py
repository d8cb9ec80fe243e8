"""The codes that servers send, in plain torch: fused kernels keep none to look at."""

# Shape suffixes: N servers, P gradient values, B blocks.

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from optinc.reducers.kernels.eager import chunks
from optinc.reducers.signal_statistics import Signal
from optinc.signal.block_quantizer import BlockQuantizer


def quantized_signals(gradients_NP: Tensor, quantizer: BlockQuantizer) -> Iterator[Signal]:
    """Quantise gradients as a reduction does, chunk by chunk.

    Args:
        gradients_NP: Float tensor [N, P], whole blocks of all servers.
        quantizer: That of the reduction.

    Returns:
        The codes of every chunk of :data:`~optinc.reducers.kernels.eager.CHUNK_BLOCKS` blocks.
    """
    scales_B, values = quantizer.scales(gradients_NP), gradients_NP.shape[1]
    for block, value in chunks(len(scales_B), quantizer.block_size):
        usable_B = torch.isfinite(scales_B[block])
        yield Signal(
            place=slice(value.start, min(value.stop, values)),
            codes_NP=quantizer.encode(gradients_NP[:, value], scales_B[block]),
            usable_P=usable_B.repeat_interleave(quantizer.block_size)[: values - value.start],
            zero=quantizer.zero,
            qmax=quantizer.qmax,
        )
