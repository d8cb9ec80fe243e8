"""The parameters of a module that are trained: now, at the layout of its gradients, by a loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from optinc.strategies.flat_parameters import FlatParameters


def is_current(layout: FlatParameters, module: nn.Module) -> bool:
    """Tell whether the trainable parameters of a module are still those of its layout."""
    trainable = [id(p) for p in module.parameters() if p.requires_grad]
    return trainable == [id(p) for p in layout.parameters]


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the names of parameters for a message."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"parameter{'s' * (len(names) > 1)} {shown}{more}"


def parameters_of(loss: Tensor) -> set[int]:
    """Return the identities of the parameters in the graph of a loss, before or after its pass."""
    found, seen, nodes = set(), set(), [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        nodes.extend(before for before, _ in node.next_functions)
    return found


def released_within_step(layout: FlatParameters, module: nn.Module, loss: Tensor) -> str | None:
    """Say which parameters of a loss became trainable after the step had begun, if any did.

    Args:
        layout: The parameters that were trainable then.
        module: The module in training.
        loss: The loss, before its backward pass.
    """
    known = {id(parameter) for parameter in layout.parameters}
    released = [
        (name, id(parameter))
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and id(parameter) not in known
    ]
    used = parameters_of(loss) if released else set()
    names = [name for name, identity in released if identity in used]
    if not names:
        return None
    return (
        f"{listed(names)} became trainable inside training_step, and the servers have not laid out "
        "their gradients for it; set requires_grad before, for example in on_train_batch_start"
    )


def left_from_before(layout: FlatParameters, loss: Tensor) -> str | None:
    """Say which parameters, unused by a loss, have a gradient of an earlier pass, if any have.

    DDP sends such a gradient once more and throws the result away, with which a server would take
    its fed-back errors for sent.

    Args:
        layout: The trainable parameters.
        loss: The loss, before its backward pass.
    """
    kept = with_gradient(layout)
    stale = kept - parameters_of(loss) if kept else kept
    return would_lose_errors(layout, stale) if stale else None


def with_gradient(layout: FlatParameters) -> set[int]:
    """Return the identities of the parameters that have a gradient which is not zero."""
    return {id(p) for p in layout.parameters if p.grad is not None and p.grad.any()}


def would_lose_errors(layout: FlatParameters, stale: set[int]) -> str:
    """Say which parameters without a new gradient have one of an earlier backward pass."""
    named = zip(layout.names, layout.parameters, strict=True)
    names = [name for name, parameter in named if id(parameter) in stale]
    return (
        f"{listed(names)} got no gradient in this backward pass and still had that of an earlier "
        "one, with which fed-back errors would be lost: call zero_grad() of every optimiser after "
        "its step(), not before backward()"
    )
