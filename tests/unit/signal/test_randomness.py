from __future__ import annotations

import torch
from torch import Tensor

from optinc.signal.randomness import generator_of


def draw(**place: int) -> Tensor:
    return torch.rand(8, generator=generator_of(3, **place))


def test_equal_reduction_and_place_draw_equal_numbers() -> None:
    assert torch.equal(draw(reduction=5, place=70), draw(reduction=5, place=70))


def test_another_reduction_or_place_draws_other_numbers() -> None:
    first = draw(reduction=5, place=70)
    others = [draw(reduction=6, place=70), draw(reduction=5, place=71), draw(reduction=70, place=5)]
    assert not any(torch.equal(first, other) for other in others)


def test_the_global_random_state_stays_as_it_was() -> None:
    before = torch.random.get_rng_state()
    draw(reduction=1, place=2)
    assert torch.equal(torch.random.get_rng_state(), before)
