"""`SpringModel`: a backbone and its virtual tokens behind one small interface."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from spring_integrations import generation
from spring_integrations.backbone import DEMO_FOLDER, DEMO_ID, Backbone, Seq2SeqBackbone, fingerprint
from spring_integrations.context_cache import ContextCache
from spring_integrations.detokenize import Completion
from spring_integrations.errors import BackboneError, PromptTooLongError, SettingsError, TokensError
from spring_integrations.generation import GenerationSettings
from spring_integrations.passages import Passage
from spring_integrations.prompt import BoundaryRule, OnMissingBoundary, RagPrompt, check_question, report_missing
from spring_integrations.tokens import FILE_NAME, SpringTokens

log = logging.getLogger(__name__)

DEMO_TOKENS = DEMO_FOLDER.parent / FILE_NAME
OnTooLong = Literal["warn", "error"]
OnOtherBackbone = Literal["ignore", "warn", "error"]
_PROPERTIES = ("tokens", "k", "settings", "boundary_rule", "on_missing_boundary", "on_too_long", "context_cache")


@dataclass(frozen=True)
class Generation:
    """An answer and what was done for it.

    Attributes:
        text: the answer, without the prompt and without stop strings.
        k: virtual tokens used: 0 where the prompt has no boundary.
        boundary: the rule that found the boundary ("mark", "explicit", "langchain-stuff", …), or None.
        prompt_tokens: positions of the prompt, virtual tokens included.
        completion_tokens: generated tokens.
        finish_reason: "stop" or "length".
        dropped_passages: passages left out because the prompt was too long.
    """

    text: str
    k: int
    boundary: str | None
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    dropped_passages: int = 0

    def info(self) -> dict[str, Any]:
        """Returns everything but the text, for the frameworks' metadata fields."""
        return {name: value for name, value in vars(self).items() if name != "text"}


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    k: int
    boundary: str | None
    dropped: int
    context: list[int]


class SpringModel:
    """A frozen backbone with virtual tokens.

    `prompts` are strings, with or without a mark, or `RagPrompt`. A prompt in which no boundary
    between context and question is found, and any prompt with k=0, gets exactly what the plain
    backbone gives. Safe to call from several threads.
    """

    def __init__(
        self,
        backbone: PreTrainedModel | Backbone,
        tokenizer: PreTrainedTokenizerBase | None = None,
        tokens: SpringTokens | None = None,
        *,
        k: int | None = None,
        settings: GenerationSettings | None = None,
        boundary_rule: str | BoundaryRule | None = None,
        on_missing_boundary: OnMissingBoundary = "ignore",
        on_too_long: OnTooLong = "warn",
        on_other_backbone: OnOtherBackbone = "warn",
        context_cache: ContextCache | None = None,
    ) -> None:
        """Puts tokens on loaded transformers objects, or on a `Backbone` shared with other models.

        Args:
            backbone: a causal language model, or a `Backbone`.
            tokenizer: its tokenizer; not needed with a `Backbone`.
            tokens: the virtual tokens; None is the plain backbone.
            k: virtual tokens to use unless a call says otherwise; None means all.
            settings: generation settings unless a call says otherwise.
            boundary_rule: the user's own rule (see `BoundaryRule.from_user`).
            on_missing_boundary: what to do with a prompt without a boundary.
            on_too_long: warn when passages are dropped, or raise.
            on_other_backbone: what to do when the tokens name another backbone.
            context_cache: keeps contexts for other questions, another k and k=0 (how exact: `ContextCache`).

        Raises:
            TokensError: if the tokens do not fit the backbone.
            TokenCountError: if k is outside 0…n.
        """
        if not isinstance(backbone, Backbone):
            if tokenizer is None:
                msg = "a transformers model needs its tokenizer: SpringModel(model, tokenizer, tokens)"
                raise SettingsError(msg)
            backbone = Backbone(backbone, tokenizer)
        elif isinstance(backbone, Seq2SeqBackbone):
            msg = f"{backbone.name} is an encoder-decoder; spring_integrations.decoding.Seq2SeqModel takes it"
            raise BackboneError(msg)
        self._backbone = backbone
        self.tokens = tokens
        self.settings = settings or GenerationSettings()
        self.boundary_rule = BoundaryRule.from_user(boundary_rule) if boundary_rule else None
        self.on_missing_boundary = check_choice("on_missing_boundary", on_missing_boundary, OnMissingBoundary)
        self.on_too_long = check_choice("on_too_long", on_too_long, OnTooLong)
        check_choice("on_other_backbone", on_other_backbone, OnOtherBackbone)
        self.context_cache = context_cache
        self.k = count_tokens(self.tokens, k)
        if tokens is not None:
            _check_same_backbone(backbone, tokens, on_other_backbone)
            backbone.attach(tokens)

    @classmethod
    def from_pretrained(
        cls,
        model_id: str,
        tokens_path: str | os.PathLike[str] | None = None,
        *,
        k: int | None = None,
        settings: GenerationSettings | None = None,
        boundary_rule: str | BoundaryRule | None = None,
        on_missing_boundary: OnMissingBoundary = "ignore",
        on_too_long: OnTooLong = "warn",
        on_other_backbone: OnOtherBackbone = "warn",
        context_cache: ContextCache | None = None,
        dtype: str | torch.dtype = "auto",
        device_map: Any = None,
        revision: str | None = None,
        quantization_config: Any = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
    ) -> SpringModel:
        """Loads a backbone (local folder, hub id, or "demo") and its tokens.

        `tokens_path` may be left out for "demo", which brings its own; for another backbone that
        loads it plain. The other arguments are those of `SpringModel` and of transformers'
        `from_pretrained`.

        Raises:
            BackboneError: if the backbone cannot be loaded.
            TokensError: if the tokens cannot be loaded or do not fit.
        """
        if tokens_path is None and model_id == DEMO_ID:
            tokens_path = DEMO_TOKENS
        tokens = None if tokens_path is None else SpringTokens.load(tokens_path)
        backbone = Backbone.load(
            model_id,
            dtype=dtype,
            device_map=device_map,
            revision=revision,
            quantization_config=quantization_config,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
        )
        return cls(
            backbone,
            tokens=tokens,
            k=k,
            settings=settings,
            boundary_rule=boundary_rule,
            on_missing_boundary=on_missing_boundary,
            on_too_long=on_too_long,
            on_other_backbone=on_other_backbone,
            context_cache=context_cache,
        )

    @property
    def backbone(self) -> PreTrainedModel:
        """The transformers model."""
        return self._backbone.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The transformers tokenizer, as it was loaded."""
        return self._backbone.tokenizer

    @property
    def shared(self) -> Backbone:
        """The loaded backbone, to make further models with other tokens on it."""
        return self._backbone

    @property
    def name(self) -> str:
        """Id of the backbone."""
        return self._backbone.name

    @property
    def window(self) -> int:
        """Positions of the backbone's context window."""
        return self._backbone.window

    def with_changes(self, **changes: Any) -> SpringModel:
        """Returns a model on the same backbone, with some of this one's properties replaced.

        Args:
            changes: `tokens`, `k`, `settings`, `boundary_rule`, `on_missing_boundary`, `on_too_long`,
                `context_cache`, as in the constructor. Other tokens come with all of theirs unless `k` is given, and
                `on_other_backbone` says what to do when they name another backbone.

        Raises:
            SettingsError: for a name that is none of these.
            TokensError: if other tokens do not fit the backbone.
            TokenCountError: if k is outside 0…n.
        """
        own = {name: getattr(self, name) for name in _PROPERTIES}
        if unknown := sorted(set(changes) - {*own, "on_other_backbone"}):
            msg = f"a SpringModel cannot change {', '.join(unknown)}; it can change {', '.join(own)}"
            raise SettingsError(msg)
        if "tokens" in changes:
            own["k"] = None
        else:
            own["on_other_backbone"] = "ignore"  # checked when this model was made
        return SpringModel(self._backbone, **own | changes)

    def detach(self) -> None:
        """Restores the backbone's own embedding module; this model is the plain backbone then."""
        self._backbone.detach()
        self.tokens, self.k = None, 0

    def prompt(self, passages: Sequence[Passage | str], question: str) -> RagPrompt:
        """Writes the paper's prompt, with this tokenizer's control tokens neutralised in passages."""
        return RagPrompt.from_passages(passages, question, special_tokens=self._backbone.special_tokens)

    def generate(
        self, prompts: str | RagPrompt | Sequence[str | RagPrompt], *, k: int | None = None, **settings: Any
    ) -> list[Generation]:
        """Generates an answer for each prompt, in order.

        Args:
            prompts: one or several prompts.
            k: virtual tokens to use; None means this model's k; 0 is the plain backbone.
            settings: fields of `GenerationSettings` that differ for this call.

        Raises:
            PromptError: for an empty prompt, or one without a boundary if so asked.
            PromptTooLongError: if a prompt does not fit the window even without passages.
            TokenCountError: if k is outside 0…n.
            SettingsError: for an unknown setting or an impossible value.
        """
        listed = [prompts] if isinstance(prompts, str | RagPrompt) else list(prompts)
        wanted = self.settings.with_changes(settings)
        encoded = [self._encode(p, k, wanted.max_new_tokens) for p in listed]
        rows, contexts = [e.ids for e in encoded], [e.context for e in encoded]
        done = generation.generate(self._backbone, rows, wanted, contexts=contexts, cache=self.context_cache)
        return [_result(e, c) for e, c in zip(encoded, done, strict=True)]

    def stream(
        self, prompt: str | RagPrompt, *, k: int | None = None, **settings: Any
    ) -> Generator[str | Generation, None, None]:
        """Yields pieces of the answer as they are generated, and at last the `Generation`.

        The pieces together are the text that `generate` returns. Closing the iterator stops the
        model. Arguments and errors are those of `generate`.
        """
        wanted = self.settings.with_changes(settings)
        encoded = self._encode(prompt, k, wanted.max_new_tokens)
        ids, context = encoded.ids, encoded.context
        pieces = generation.stream(self._backbone, ids, wanted, context=context, cache=self.context_cache)
        return _results(encoded, pieces)

    def score(
        self, prompt: str | RagPrompt, answers: Sequence[str], *, k: int | None = None, add_eos: bool = False
    ) -> list[float]:
        """Returns log p(answer | prompt) in nats for each answer, summed over its tokens.

        Args:
            prompt: the prompt.
            answers: texts as they would be generated; give the leading space where the tokenizer
                makes one.
            k: virtual tokens to use; None means this model's k.
            add_eos: score the end of the answer too.
        """
        tokenizer = self.tokenizer
        with self._backbone.text_lock:
            ids = [list(tokenizer(a, add_special_tokens=False).input_ids) for a in answers]
        if add_eos:
            ids = [i + self._backbone.eos_ids[:1] for i in ids]
        encoded = self._encode(prompt, k, max((len(i) for i in ids), default=0))
        return generation.score(self._backbone, [encoded.ids] * len(ids), ids)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a text, special tokens not counted."""
        with self._backbone.text_lock:
            return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _encode(self, prompt: str | RagPrompt, k: int | None, room: int) -> _Encoded:
        parsed = RagPrompt.parse(prompt, self.boundary_rule) if isinstance(prompt, str) else prompt.without_marks()
        check_question(parsed.text)
        count = self.k if k is None else count_tokens(self.tokens, k)
        if count and parsed.boundary is None:
            count = 0
            report_missing(parsed, self.on_missing_boundary)
        virtual = self._backbone.virtual_ids(self.tokens, count)
        ids = self._backbone.encode(parsed, virtual)
        dropped = 0
        while len(ids) + room > self.window:
            shorter = parsed.without_last_passage()
            if shorter is None or self.on_too_long == "error":
                raise PromptTooLongError(self._too_long(len(ids), room, count))
            parsed = shorter
            dropped += 1
            ids = self._backbone.encode(parsed, virtual)
        if dropped:
            log.warning(
                "the prompt does not fit the %d positions of %s: left out the %d lowest-ranked passage(s), %d kept",
                self.window, self.name, dropped, len(parsed.passage_ends),
            )  # fmt: skip
        return _Encoded(ids, count, parsed.boundary, dropped, self._context(parsed, ids, virtual))

    def _context(self, prompt: RagPrompt, ids: list[int], virtual: range) -> list[int]:
        """Returns the ids before the boundary, the same for every k; [] if they are not to be kept."""
        if self.context_cache is None or prompt.boundary is None:
            return []
        if not virtual:
            ids = self._backbone.encode(prompt, virtual := range(-1, 0))  # no other id is negative
        return ids[: ids.index(virtual[0])]

    def _too_long(self, length: int, room: int, k: int) -> str:
        return (
            f"the prompt has {length} tokens (k={k} virtual ones included) and max_new_tokens={room}, together more "
            f"than the {self.window} positions of {self.name}; shorten the question or the passages, retrieve "
            "fewer of them, or lower max_new_tokens"
        )


def _result(encoded: _Encoded, completion: Completion) -> Generation:
    return Generation(
        text=completion.text,
        k=encoded.k,
        boundary=encoded.boundary,
        prompt_tokens=len(encoded.ids),
        completion_tokens=completion.tokens,
        finish_reason=completion.finish_reason,
        dropped_passages=encoded.dropped,
    )


def _results(
    encoded: _Encoded, pieces: Generator[str | Completion, None, None]
) -> Generator[str | Generation, None, None]:
    with contextlib.closing(pieces):
        for piece in pieces:
            yield piece if isinstance(piece, str) else _result(encoded, piece)


def count_tokens(tokens: SpringTokens | None, k: int | None) -> int:
    """Returns how many virtual tokens k asks for; None means all.

    Raises:
        TokensError: if some are asked for and there are none.
        TokenCountError: if k is outside 0…n.
    """
    if tokens is None:
        if k:
            msg = f"k={k} virtual tokens asked for, but the model has none: no tokens are loaded; give tokens_path"
            raise TokensError(msg)
        return 0
    return len(tokens) if k is None else tokens.check_count(k)


def check_choice(name: str, value: Any, choices: Any) -> Any:
    """Returns the value; raises SettingsError unless it is one of a Literal's."""
    if value not in (allowed := choices.__args__):
        msg = f"{name}={value!r} is not one of {', '.join(map(repr, allowed))}"
        raise SettingsError(msg)
    return value


def _check_same_backbone(backbone: Backbone, tokens: SpringTokens, action: OnOtherBackbone) -> None:
    meta = tokens.metadata
    if action == "ignore":
        return
    problem = ""
    if meta.fingerprint:
        found = fingerprint(backbone.model.get_input_embeddings())
        if found and found != meta.fingerprint:
            problem = "the embedding table differs from the one they were trained with"
    elif meta.backbone and Path(meta.backbone).name != Path(backbone.name).name:
        problem = f"they name {meta.backbone!r}"
    if not problem:
        return
    trained = meta.backbone or "another backbone"
    msg = f"the virtual tokens were trained for {trained}, not for {backbone.name}: {problem}; expect poor answers"
    if action == "error":
        raise TokensError(msg)
    log.warning(msg)
