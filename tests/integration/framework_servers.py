"""Trains by every section of docs/use_in_your_project.md, as one of two servers.

    torchrun --nproc-per-node 2 -m tests.integration.framework_servers FOLDER [unified]

Writes to FOLDER, for each server and section, the rows that it saw and the final weights, or why
the section cannot run here; and what came of trainings that no section shows. With ``unified`` it
does so for the section of the package `lightning`, which needs processes of its own: OptINC is
built on the package of Lightning that is imported first.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

import optinc
from optinc.errors import OptINCError

PAGE = Path(__file__).parents[2] / "docs" / "use_in_your_project.md"

UNIFIED = "Lightning, the package `lightning`"
"""The section that runs by itself."""

PACKAGES = {
    "Accelerate": "accelerate",
    "Hugging Face Trainer": "accelerate",
    UNIFIED: "lightning",
    "LightningCLI": "jsonargparse",
}
"""What a section needs beside OptINC's own dependencies."""


def sections() -> dict[str, str]:
    """The code of every section with code, by its title; the first part has none."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text(), flags=re.MULTILINE)
    texts = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
    blocks = {
        title: re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        for title, text in texts.items()
    }
    return {title: "\n".join(code) for title, code in blocks.items() if code}


def begin() -> dict[str, Any]:
    """Run the first part of the page; note what its model sees, and every model that is built."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(sections()[""], names)  # noqa: S102
    net, names["models"], names["seen"] = names["Net"], [], []
    build, forward = net.__init__, net.forward

    @functools.wraps(build)
    def noting_build(self: nn.Module) -> None:
        names["models"].append(self)
        build(self)

    @functools.wraps(forward)
    def noting_forward(self: nn.Module, x: Tensor, labels: Tensor) -> Any:
        names["seen"].append((x.detach().clone(), labels.detach().clone()))
        return forward(self, x, labels)

    net.__init__, net.forward = noting_build, noting_forward
    return names


def whole(tensor: Any) -> Tensor:
    found = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found.detach().clone()


def missing(title: str) -> str | None:
    """Why a section cannot run, None where it can."""
    package = PACKAGES.get(title)
    if package is None or find_spec(package) is not None:
        return None
    return f"{package} is not installed"


def train(title: str, code: str) -> dict[str, Any]:
    """Run a section; return the rows seen and the final weights."""
    reason = missing(title)
    if reason is not None:
        return {"missing": reason}
    names = begin()
    exec(code, names)  # noqa: S102
    weights = {name: whole(p) for name, p in names["models"][-1].named_parameters()}
    return {"seen": names["seen"], "weights": weights}


def network(seed: int, width: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 4))


def rows(rank: int, step: int) -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(100 * rank + step))


def adversarial() -> list[nn.Module]:
    """A GAN: two models, two optimisers, three backward passes a step."""
    rank = dist.get_rank()
    inner = [network(0, 20), network(1, 30)]
    generator, critic = (DistributedDataParallel(module) for module in inner)
    for model in (generator, critic):
        optinc.attach(model)
    first, second = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (generator, critic))
    for step in range(3):
        made = generator(rows(rank, step))
        second.zero_grad()
        (critic(made.detach()).square().mean() - critic(rows(rank, 50 + step)).mean()).backward()
        second.step()
        first.zero_grad()
        critic.requires_grad_(False)
        critic(made).mean().backward()
        critic.requires_grad_(True)
        first.step()
    return inner


def accumulating() -> list[nn.Module]:
    rank = dist.get_rank()
    inner = network(0, 20)
    model = DistributedDataParallel(inner, bucket_cap_mb=0.0001, gradient_as_bucket_view=True)
    optinc.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        with model.no_sync():
            model(rows(rank, step)).square().mean().backward()
        model(rows(rank, 50 + step)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [inner]


def uneven() -> list[nn.Module]:
    """Server 1 has one batch, server 0 has three."""
    rank = dist.get_rank()
    inner = network(0, 20)
    model = DistributedDataParallel(inner, bucket_cap_mb=0.0001)
    optinc.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Join([model]):
        for step in range(1 if rank else 3):
            optimizer.zero_grad()
            model(rows(rank, step)).square().mean().backward()
            optimizer.step()
    return [inner]


def unused_on_one_server() -> str:
    """The last training: server 1 cannot reduce, and server 0 waits for it."""
    model = DistributedDataParallel(nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]))
    optinc.attach(model)
    model.module.forward = lambda x: (
        model.module[0](x) if dist.get_rank() else model.module[1](model.module[0](x))
    )
    try:
        model(torch.ones(1, 4)).sum().backward()
    except OptINCError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


OTHERS: dict[str, Callable[[], list[nn.Module]]] = {
    "adversarial": adversarial,
    "accumulating": accumulating,
    "uneven": uneven,
}


def run_all() -> dict[str, Any]:
    """Run all sections but one, and the other trainings."""
    found: dict[str, Any] = {
        title: train(title, code)
        for title, code in sections().items()
        if title not in {"", UNIFIED}
    }
    for name, other in OTHERS.items():
        found[name] = [whole(p) for module in other() for p in module.parameters()]
    found["unused"] = unused_on_one_server()
    return found


def main() -> None:
    # Sums over several threads would be taken in another order.
    torch.set_num_threads(1)
    folder, *unified = sys.argv[1:]
    # Some frameworks write checkpoints and settings where they are started.
    os.chdir(folder)
    initialise = dist.init_process_group
    # The sections share this process and its group.
    dist.init_process_group = lambda *args, **kwargs: (  # type: ignore[assignment]
        None if dist.is_initialized() else initialise(*args, **kwargs)
    )
    found = {UNIFIED: train(UNIFIED, sections()[UNIFIED])} if unified else run_all()
    torch.save(found, Path(folder) / f"{os.environ['RANK']}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
