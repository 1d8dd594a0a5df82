"""Encoder-decoder generators (BART, the paper's, and T5): rows over them, and `Seq2SeqModel`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput
from typing_extensions import Unpack

from spring_integrations._renamed import Renamed
from spring_integrations.decoding.rows import Rows, State, check_forkable
from spring_integrations.errors import SettingsError
from spring_integrations.passages import Passage
from spring_integrations.prompts import OnMissingBoundary, RagPrompt
from spring_integrations.runtime.backbone import Seq2SeqBackbone
from spring_integrations.runtime.batching import input_device, pad
from spring_integrations.runtime.loading import LoadArguments
from spring_integrations.runtime.model import OnTooLong, check_actions
from spring_integrations.runtime.same_backbone import OnOtherBackbone, check_same_backbone
from spring_integrations.runtime.settings import GenerationSettings
from spring_integrations.tokens import SpringTokens, resolve_k


def seq2seq_rows(backbone: Seq2SeqBackbone, prompts: Sequence[list[int]]) -> Rows:
    """Encodes prompts, virtual ids included, as one right-padded batch, and starts the decoder.

    Raises:
        BackboneError: if the decoder has no KV cache, or the checkpoint does not say how it starts.
    """
    device = input_device(backbone)
    config = backbone.model.config
    caches = (check_forkable(backbone, DynamicCache(config=config)), DynamicCache(config=config))
    start = torch.tensor([backbone.decoder_start] * len(prompts), device=device)
    # Encoders with learned positions count from the left, padding included.
    ids, mask = pad(prompts, backbone.pad_id, side="right", device=device)
    with backbone.lock, torch.inference_mode():
        encoded = backbone.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state

    @torch.inference_mode()
    def step(state: State, ids: Tensor) -> tuple[State, Tensor]:
        with backbone.lock:
            logits: Tensor = backbone.model(
                encoder_outputs=BaseModelOutput(last_hidden_state=state.encoded),
                attention_mask=state.mask,
                decoder_input_ids=ids,
                past_key_values=state.cache,
                use_cache=True,
            ).logits
        return state, logits

    state, logits = step(State(EncoderDecoderCache(*caches), mask, encoded), start)
    return Rows(step, state, logits[:, -1])


class Seq2SeqModel:
    """A frozen encoder-decoder with virtual tokens, for `RagDecoder`; `frozen` is its `Seq2SeqBackbone`.

    What `SpringModel` is for causal language models: each passage's prompt, with the virtual tokens
    between passage and question, is the encoder's input. Several can share one backbone.
    """

    shared = Renamed("frozen")

    def __init__(
        self,
        backbone: PreTrainedModel | Seq2SeqBackbone,
        tokenizer: PreTrainedTokenizerBase | None = None,
        tokens: SpringTokens | None = None,
        *,
        k: int | None = None,
        settings: GenerationSettings | None = None,
        on_missing_boundary: OnMissingBoundary = "once",
        on_too_long: OnTooLong = "warn",
        on_other_backbone: OnOtherBackbone = "warn",
    ) -> None:
        """Puts tokens on loaded transformers objects, or on a backbone shared with other models.

        Args:
            backbone: an encoder-decoder of transformers, or a `Seq2SeqBackbone`.
            tokenizer: its tokenizer; not needed with a `Seq2SeqBackbone`.
            tokens: the virtual tokens; None is the plain backbone.
            k: virtual tokens to use unless a call says otherwise; None means all.
            settings: generation settings unless a call says otherwise.
            on_missing_boundary: what to do with a prompt without a boundary, as in `SpringModel`.
            on_too_long: warn when a passage is left out because its prompt is too long, or raise.
            on_other_backbone: what to do when the tokens name another backbone.

        Raises:
            BackboneError: if the model is not an encoder-decoder.
            SettingsError: if the tokenizer is missing, or for a word that is not one of a setting's choices.
            TokensError: if the tokens do not fit the backbone.
            TokenCountError: if k is outside 0…n.
        """
        if not isinstance(backbone, Seq2SeqBackbone):
            if tokenizer is None:
                msg = "a transformers model needs its tokenizer: Seq2SeqModel(model, tokenizer, tokens)"
                raise SettingsError(msg)
            backbone = Seq2SeqBackbone(backbone, tokenizer)
        self.frozen = backbone
        self.tokens = tokens
        self.settings = settings or GenerationSettings()
        check_actions(on_missing_boundary, on_too_long, on_other_backbone)
        self.on_missing_boundary: OnMissingBoundary = on_missing_boundary
        self.on_too_long: OnTooLong = on_too_long
        self.k = resolve_k(tokens, k)
        if tokens is not None:
            check_same_backbone(backbone, tokens, on_other_backbone)
            backbone.attach(tokens)

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        tokens_path: str | os.PathLike[str] | None = None,
        *,
        k: int | None = None,
        settings: GenerationSettings | None = None,
        on_missing_boundary: OnMissingBoundary = "once",
        on_too_long: OnTooLong = "warn",
        on_other_backbone: OnOtherBackbone = "warn",
        **loading: Unpack[LoadArguments],
    ) -> Seq2SeqModel:
        """Loads an encoder-decoder (a local folder or a hub id) and its tokens.

        Args:
            model_id: the backbone.
            tokens_path: its tokens; None is the plain backbone.
            k: virtual tokens to use unless a call says otherwise; None means all.
            settings: generation settings unless a call says otherwise.
            on_missing_boundary: what to do with a prompt without a boundary.
            on_too_long: warn when a passage is left out because its prompt is too long, or raise.
            on_other_backbone: what to do when the tokens name another backbone.
            loading: fields of `LoadOptions`.

        Raises:
            BackboneError: if the backbone cannot be loaded or is not an encoder-decoder.
            TokensError: if the tokens cannot be loaded or do not fit.
        """
        tokens = None if tokens_path is None else SpringTokens.load(tokens_path)
        backbone = Seq2SeqBackbone.load(model_id, **loading)
        return cls(
            backbone,
            tokens=tokens,
            k=k,
            settings=settings,
            on_missing_boundary=on_missing_boundary,
            on_too_long=on_too_long,
            on_other_backbone=on_other_backbone,
        )

    @property
    def window(self) -> int:
        """Positions of the encoder's input."""
        return self.frozen.window

    def prompt(self, passages: Sequence[Passage | str], question: str) -> RagPrompt:
        """Writes the paper's prompt, with this tokenizer's control tokens neutralised in passages."""
        return RagPrompt.from_passages(passages, question, special_tokens=self.frozen.special_tokens)
