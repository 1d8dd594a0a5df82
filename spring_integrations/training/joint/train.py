"""A run of joint training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from spring_integrations.errors import SettingsError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import input_device
from spring_integrations.training.data import Example
from spring_integrations.training.joint.config import JointConfig
from spring_integrations.training.joint.encoders import digest, query_encoder, trainable
from spring_integrations.training.joint.generators import make_generator
from spring_integrations.training.joint.method import Joint
from spring_integrations.training.joint.vectors import DenseRetriever, VectorSource
from spring_integrations.training.loop import StepProgress
from spring_integrations.training.methods import Adaptation
from spring_integrations.training.trainer import TrainingResult, run


def train_joint(
    backbone: Backbone,
    encoder: Any,
    index: VectorSource,
    examples: Sequence[Example],
    config: JointConfig,
    output_dir: str | os.PathLike[str],
    *,
    validation: Sequence[Example] = (),
    progress: StepProgress | None = None,
) -> TrainingResult:
    """Trains a query encoder together with virtual tokens, or with a whole encoder-decoder.

    Minimises -log Σ_z p(z|x) p(y|x,z) (Lewis et al. 2020, section 2.4) over K passages z that the
    current query encoder retrieves from the index at every step. Passage vectors do not change, and
    nothing says which passage is right. Everything else is as in `train`.

    Args:
        backbone: a `Backbone`, which stays frozen, or for method "full" a `Seq2SeqBackbone`.
        encoder: an argument of `query_encoder`, or its result. A model is trained in place, of an
            embedder a copy.
        index: a `VectorIndex`, `ChromaVectors`, or another `VectorSource` made by the encoder's counterpart.
        examples: questions with answers; their passages are not looked at.
        config: the settings.
        output_dir: for the result, as in `train`, and the query encoder in the folder `query_encoder`.
        validation: held-out examples, answered with what is retrieved for them; the best F1 is kept.
        progress: told of every step, as in `train`.

    Raises:
        DataError: if there are no examples.
        SettingsError: if encoder, index, backbone and settings do not fit each other, or output_dir
            holds a run with other ones.
        PromptTooLongError: if a question and its answer do not fit the window; before the first step.
        StorageError: if the disk is full; the previous checkpoint is whole.
        TrainingError: if the loss is not a number, or one example does not fit the memory.
        TokensError: if the backbone carries virtual tokens already, or the initial ones do not fit.
    """
    retriever = DenseRetriever(query_encoder(encoder), index)
    trained = trainable(retriever.encoder)
    if config.num_passages > len(index):
        msg = f"num_passages={config.num_passages} passages a question, but the index holds {len(index)}; lower it"
        raise SettingsError(msg)
    facts = {
        "query_encoder": digest(retriever.encoder),
        "index": index.facts() | {"temperature": config.temperature_for(index.similarity)},
    }

    def make() -> Adaptation:
        generator = make_generator(backbone, config)
        retriever.encoder.to(input_device(backbone))
        return Joint(generator, retriever, trained, config)

    return run(make, backbone, examples, config, output_dir, validation=validation, progress=progress, facts=facts)
