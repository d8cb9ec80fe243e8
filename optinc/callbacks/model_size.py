"""The size of a model, in one line when its training starts."""

from __future__ import annotations

from torch import nn

from optinc.strategies.lightning_package import pl


class ModelSize(pl.Callback):
    """Prints class and number of parameters of the network, once on all servers.

    In place of Lightning's table of layers, whose operations (``Total FLOPs: 0``) nobody counts.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line."""
        if trainer.is_global_zero:
            print(size_text(pl_module), flush=True)


def size_text(module: nn.Module) -> str:
    """Return the class of a module, and the number of its parameters, trained ones apart."""
    children = list(module.children())
    # Of a LightningModule around a network, the network's name says more.
    name = type(children[0] if len(children) == 1 else module).__name__
    total = sum(parameter.numel() for parameter in module.parameters())
    trained = sum(each.numel() for each in module.parameters() if each.requires_grad)
    part = "" if trained == total else f", {trained:,} of them trained"
    return f"{name}: {total:,} parameters{part}"
