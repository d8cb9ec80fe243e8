"""The reduction in plain torch operations, on any device: the oracle of the fused kernels."""

# Shape suffixes: N servers, P gradient values, B blocks, W words.

from __future__ import annotations

import torch
from torch import Tensor

from optinc.reducers.blocks import bits_of, chunks, scales_of
from optinc.reducers.exact import squared_norms
from optinc.reducers.kernels.plan import ReductionPlan, Totals


def supports(plan: ReductionPlan) -> bool:
    """See :meth:`Backend.supports`; every switch has its own forward pass."""
    return True


def reduce(
    gradients_NP: Tensor, out_P: Tensor, plan: ReductionPlan, *, reduction: int = 0
) -> Totals:
    """See :meth:`Backend.reduce`; the optical reduction in six lines."""
    quantizer, switch = plan.quantizer, plan.switch
    wrong, squared_error, squared_mean = 0, 0.0, 0.0
    expected: list[float | None] = []
    scales_B = quantizer.scales(gradients_NP)
    nonfinite = int((~torch.isfinite(scales_B)).sum())
    if nonfinite and quantizer.nonfinite != "propagate":
        return Totals(nonfinite, 0, 0.0, 0.0)
    for block, value in chunks(len(scales_B), quantizer.block_size):
        rows_NP = gradients_NP[:, value]
        codes_NP = quantizer.encode(
            rows_NP, scales_B[block], reduction=reduction, first=value.start
        )
        received_P = switch(codes_NP, reduction=reduction, first=value.start)
        reduced_P = quantizer.decode(
            received_P, scales_B[block], fan_in=plan.fan_in, servers=plan.servers
        )
        wrong += switch.count_errors(codes_NP, received_P)
        expected.append(switch.expected_errors(codes_NP))
        error, mean = squared_norms(rows_NP, reduced_P, finite=not nonfinite)
        squared_error, squared_mean = squared_error + error, squared_mean + mean
        out_P[value] = reduced_P
    return Totals(nonfinite, wrong, squared_error, squared_mean, _sum(expected))


def scale_bits(gradient_P: Tensor, plan: ReductionPlan) -> Tensor:
    """See :meth:`Backend.scale_bits`."""
    return bits_of(plan.quantizer.scales(gradient_P.unsqueeze(0)))


def contribute(
    gradient_P: Tensor, scale_bits_B: Tensor, words_W: Tensor, plan: ReductionPlan
) -> None:
    """See :meth:`Backend.contribute`."""
    scales_B, words = scales_of(scale_bits_B), len(words_W)
    fields = torch.zeros(plan.fields * words, dtype=torch.int32, device=gradient_P.device)
    for block, value in chunks(len(scales_B), plan.quantizer.block_size):
        codes_P = plan.quantizer.encode(gradient_P[None, value], scales_B[block])[0]
        fields[value][: len(codes_P)] = plan.sum_code.contribution(codes_P)
    fields_FW = fields.view(plan.fields, words)
    shifts_F1 = torch.arange(plan.fields, device=fields.device).unsqueeze(1) * plan.field_bits
    torch.sum(fields_FW << shifts_F1, 0, dtype=torch.int32, out=words_W)


def receive(
    words_W: Tensor,
    scale_bits_B: Tensor,
    out_P: Tensor,
    plan: ReductionPlan,
    *,
    reduction: int = 0,
) -> Totals:
    """See :meth:`Backend.receive`."""
    scales_B = scales_of(scale_bits_B)
    words, mask, wrong = len(words_W), (1 << plan.field_bits) - 1, 0
    expected: list[float | None] = []
    for field in range(plan.fields):
        part_P = out_P[field * words : (field + 1) * words]
        first = field * words // plan.quantizer.block_size
        blocks = -(-len(part_P) // plan.quantizer.block_size)
        for block, value in chunks(blocks, plan.quantizer.block_size):
            length = len(part_P[value])
            sums_P = (words_W[value][:length] >> (field * plan.field_bits)) & mask
            place = field * words + value.start
            received_P = plan.sum_code.receive(sums_P, reduction=reduction, first=place)
            part_P[value] = plan.quantizer.decode(
                received_P,
                scales_B[first + block.start : first + block.stop],
                fan_in=plan.fan_in,
                servers=plan.servers,
            )
            wrong += plan.sum_code.count_errors(sums_P, received_P)
            expected.append(plan.sum_code.expected_errors(sums_P))
    return Totals(0, wrong, 0.0, 0.0, _sum(expected))


def _sum(expected: list[float | None]) -> float | None:
    """Add up what is known; None where nothing is."""
    known = [each for each in expected if each is not None]
    return sum(known) if known else None
