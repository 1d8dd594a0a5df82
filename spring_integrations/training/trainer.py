"""The training run: transformers' `Trainer` around the objective, with the token table as its model.

The backbone is not part of the module that `Trainer` sees, so the optimizer, the checkpoints and the
final file hold the virtual tokens only.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from spring_integrations._optional import require
from spring_integrations.backbone import Backbone, VirtualEmbedding, fingerprint
from spring_integrations.errors import TokensError
from spring_integrations.tokens import FILE_NAME, SpringTokens, TokensMetadata
from spring_integrations.training.config import TrainConfig
from spring_integrations.training.data import Drawn, Example, TrainingSet
from spring_integrations.training.objective import encode_example, spring_loss

log = logging.getLogger(__name__)

TEMPLATE = "official"


def train(
    backbone: Backbone, examples: Sequence[Example], config: TrainConfig, output_dir: str | os.PathLike[str]
) -> SpringTokens:
    """Trains virtual tokens and writes them to `output_dir/spring_tokens.safetensors`.

    The first k of n tokens are used in each step, k ~ U{1…n}. A run that was interrupted goes on from
    its last checkpoint in `output_dir`.

    Raises:
        DataError: if there are no examples.
        TokensError: if the backbone carries virtual tokens already.
        MissingExtraError: if accelerate is not installed.
    """
    require("accelerate", extra="train")
    folder = Path(output_dir)
    task = _Task(backbone, initial_tokens(backbone, config))
    data = TrainingSet(
        examples,
        epochs=config.epochs,
        num_passages=config.num_passages,
        seed=config.seed,
        special_tokens=backbone.special_tokens,
    )
    has_gpu = torch.cuda.is_available()
    trainer = _Trainer(
        model=task,
        args=TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=1,  # TrainingSet unrolls the epochs
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=max(1, int(config.warmup_ratio * len(data) / config.batch_size)),
            max_grad_norm=config.max_grad_norm,
            weight_decay=0.0,
            seed=config.seed,
            save_steps=config.save_steps,
            save_total_limit=2,
            logging_steps=config.logging_steps,
            report_to="tensorboard" if importlib.util.find_spec("tensorboard") else "none",
            remove_unused_columns=False,
            use_cpu=not has_gpu,
            dataloader_pin_memory=has_gpu,
        ),
        train_dataset=data,
        data_collator=task.collate,
    )
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last is not None:
        log.info("resuming from %s", last)
    result = trainer.train(resume_from_checkpoint=last)
    metadata = TokensMetadata(
        backbone=backbone.name,
        fingerprint=fingerprint(backbone.model.get_input_embeddings()),
        template=TEMPLATE,
        training=asdict(config) | {"examples": len(examples), "loss": round(result.training_loss, 4)},
    )
    task.detach()
    tokens = SpringTokens(task.table, metadata)
    tokens.save(folder / FILE_NAME)
    return tokens


def initial_tokens(backbone: Backbone, config: TrainConfig) -> SpringTokens:
    """Returns n tokens with the embeddings of the initial text, repeated or cut to n."""
    ids = backbone.tokenizer(config.init_text, add_special_tokens=False).input_ids
    chosen = torch.tensor([ids[i % len(ids)] for i in range(config.n)])
    base: Any = backbone.model.get_input_embeddings()
    with torch.no_grad():
        vectors = base(chosen.to(next(base.parameters()).device)).float()
    # An embedding module that scales does so for virtual tokens as well.
    return SpringTokens(vectors / getattr(base, "embed_scale", 1.0))


class _Task(nn.Module):
    """The token table as a module; its forward pass is the objective on the frozen backbone."""

    def __init__(self, backbone: Backbone, tokens: SpringTokens) -> None:
        super().__init__()
        if isinstance(backbone.model.get_input_embeddings(), VirtualEmbedding):
            msg = f"{backbone.name} already carries virtual tokens; train on a backbone of its own (Backbone.load)"
            raise TokensError(msg)
        for parameter in backbone.model.parameters():
            parameter.requires_grad_(False)
        first = backbone.attach(tokens)
        self._virtual_ids = range(first, first + len(tokens))
        # In a tuple, the backbone is no submodule: Trainer neither saves, moves nor trains it.
        self._held = (backbone,)
        embedding: Any = backbone.model.get_input_embeddings()
        self.table = nn.Parameter(tokens.embeddings.to(next(embedding.base.parameters()).device))
        embedding.table = self.table

    def collate(self, drawn: list[Drawn]) -> dict[str, Any]:
        """Encodes examples; all of them use the same k, drawn with the first."""
        k = 1 + drawn[0].draw % len(self._virtual_ids)
        ids = self._virtual_ids[:k]
        return {"examples": [encode_example(self._held[0], d.prompt, d.target, ids) for d in drawn]}

    def forward(self, examples: list[Any]) -> dict[str, Tensor]:
        """Returns {"loss": scalar}."""
        return {"loss": spring_loss(self._held[0], examples)}

    def detach(self) -> None:
        """Takes the table off the backbone."""
        self._held[0].detach()


class _Trainer(Trainer):
    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        # TrainingSet shuffles by itself, so that a resumed run sees the same order.
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(data)
