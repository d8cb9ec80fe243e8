"""Flat order of all gradient values, by ``module.named_parameters()``."""

# Shape suffixes: N servers, P gradient values.

from __future__ import annotations

import torch
from torch import Tensor, nn

from optinc.errors import ConfigurationError
from optinc.reducers.layout import GradientLayout


class FlatParameters:
    """Maps the gradients of a module's trainable parameters to one flat vector and back.

    Args:
        module: Module whose parameters with ``requires_grad`` at this moment are trained.
        alignment: Every parameter begins at a multiple of it, see
            :attr:`optinc.reducers.base.Reducer.alignment`.

    Attributes:
        names: Names of the trainable parameters in flat order.
        parameters: The trainable parameters in flat order.
        sizes: Number of values of every parameter.
        slices: Place of every parameter in the flat vector [P].
        size: Number of all values P, with the padding between the parameters.
    """

    def __init__(self, module: nn.Module, *, alignment: int = 1) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.sizes = [p.numel() for p in self.parameters]
        self._layout = GradientLayout(self.sizes, alignment=alignment)
        self.slices = self._layout.slices
        self.size = self._layout.size

    @property
    def dtype(self) -> torch.dtype:
        """Narrowest dtype that holds every gradient exactly."""
        dtype = self.parameters[0].dtype if self.parameters else torch.float32
        for parameter in self.parameters:
            dtype = torch.promote_types(dtype, parameter.dtype)
        return dtype

    def clear_padding(self, gradient_P: Tensor) -> None:
        """Set the padding of a gradient [..., P] to zero, in place."""
        self._layout.clear_padding(gradient_P)

    def differences(self, other: FlatParameters) -> list[str]:
        """Return the names of parameters that one of two layouts has and the other has not.

        A parameter that was replaced by another tensor under its name counts too.
        """
        mine = {(name, id(p)) for name, p in zip(self.names, self.parameters, strict=True)}
        theirs = {(name, id(p)) for name, p in zip(other.names, other.parameters, strict=True)}
        return sorted({name for name, _ in mine ^ theirs})

    def take_gradients(self, row_P: Tensor, *, add: bool) -> list[bool]:
        """Move the gradients into a flat row, leaving ``grad`` None.

        Args:
            row_P: Float tensor [P]; its padding becomes zero.
            add: Add to the row instead of overwriting it.

        Returns:
            For each parameter, whether it had a gradient; a missing gradient counts as zero.

        Raises:
            ConfigurationError: If a gradient is sparse.
        """
        self.clear_padding(row_P)
        self.refuse_sparse()
        present = []
        for parameter, part in zip(self.parameters, self.slices, strict=True):
            gradient, parameter.grad = parameter.grad, None
            present.append(gradient is not None)
            if gradient is None:
                if not add:
                    row_P[part].zero_()
                continue
            view = row_P[part].view_as(gradient)
            if add and view.dtype != gradient.dtype:
                # Autograd would add in the parameter's dtype; the row holds its values exactly.
                view.copy_(view.to(gradient.dtype).add_(gradient))
            elif add:
                view.add_(gradient)
            else:
                view.copy_(gradient)
        return present

    def refuse_sparse(self) -> None:
        """Refuse gradients that are sparse.

        Raises:
            ConfigurationError: Names the parameter.
        """
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                raise ConfigurationError(
                    f"parameter '{name}' has a sparse gradient, which cannot be sent as symbols; "
                    "build its layer with sparse=False"
                )

    def set_gradients(self, reduced_P: Tensor, present: list[bool]) -> None:
        """Give each parameter its part of the reduced gradient, None where none was present."""
        for parameter, part, has in zip(self.parameters, self.slices, present, strict=True):
            view = reduced_P[part].view_as(parameter).to(parameter.dtype)
            parameter.grad = view if has else None
