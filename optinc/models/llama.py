"""LLaMA-style decoder (transformers' LlamaForCausalLM, built from a configuration)."""

from __future__ import annotations

from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from optinc.errors import ConfigurationError
from optinc.models.base import OptimizerFactory, OptINCModel, SchedulerFactory


class LlamaLanguageModel(OptINCModel):
    """Language model; the paper's has 8 layers, hidden size 384 and 8 heads (Sec. IV).

    Args:
        vocab_size: Vocabulary of the data.
        sequence_length: Longest sequence.
        layers: Decoder layers.
        hidden_size: Width.
        heads: Attention heads; must divide ``hidden_size`` into even head sizes.
        intermediate_size: Width of the feed-forward layers.
        attention_dropout: Probability of dropping an attention weight.
        optimizer: See :class:`OptINCModel`.
        scheduler: See :class:`OptINCModel`.

    Raises:
        ConfigurationError: If the heads do not divide the hidden size.
    """

    modality = "text"

    def __init__(
        self,
        *,
        vocab_size: int,
        sequence_length: int,
        layers: int,
        hidden_size: int,
        heads: int,
        intermediate_size: int,
        attention_dropout: float,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler)
        if hidden_size % (2 * heads):
            raise ConfigurationError(
                f"model.heads={heads} must divide model.hidden_size={hidden_size} into even sizes"
            )
        self.network = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab_size,
                max_position_embeddings=sequence_length,
                num_hidden_layers=layers,
                hidden_size=hidden_size,
                num_attention_heads=heads,
                num_key_value_heads=heads,
                intermediate_size=intermediate_size,
                attention_dropout=attention_dropout,
                use_cache=False,
            )
        )

    def forward(self, input_ids: Tensor) -> Tensor:
        """Return the mean cross-entropy (nats per token) of int64 sequences [B, length]."""
        loss: Tensor = self.network(input_ids=input_ids, labels=input_ids).loss
        return loss

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of a batch."""
        loss: Tensor = self(batch["input_ids"])
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["input_ids"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log the cross-entropy in nats per token."""
        loss = self(batch["input_ids"])
        self.log(
            "val_loss", loss, prog_bar=True, batch_size=len(batch["input_ids"]), sync_dist=True
        )
