"""`SpringModel`: a backbone and its virtual tokens behind one small interface."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Sequence
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import Unpack

from spring_integrations._choices import check_choice
from spring_integrations._once import Once
from spring_integrations._renamed import Renamed, renamed
from spring_integrations.errors import BackboneError, PromptTooLongError, SettingsError
from spring_integrations.passages import Passage
from spring_integrations.prompts import (
    BoundaryRule,
    OnMissingBoundary,
    RagPrompt,
    check_answers,
    check_prompts,
    check_question,
    report_missing,
)
from spring_integrations.runtime import generation, waiting
from spring_integrations.runtime.backbone import Backbone, Seq2SeqBackbone
from spring_integrations.runtime.context_cache import ContextCache
from spring_integrations.runtime.detokenize import Completion
from spring_integrations.runtime.fitting import fit
from spring_integrations.runtime.loading import LoadArguments
from spring_integrations.runtime.named import named_model
from spring_integrations.runtime.result import Encoded, Generation, result, results
from spring_integrations.runtime.room import AnswerRoom, check_answer_fits
from spring_integrations.runtime.same_backbone import OnOtherBackbone, check_same_backbone
from spring_integrations.runtime.settings import GenerationSettings
from spring_integrations.tokens import SpringTokens, resolve_k

log = logging.getLogger(__name__)

OnTooLong = Literal["warn", "error"]
_PROPERTIES = ("tokens", "k", "settings", "boundary_rule", "on_missing_boundary", "on_too_long", "context_cache")


class SpringModel:
    """A frozen backbone with virtual tokens.

    `prompts` are strings, with or without a mark, or `RagPrompt`. A prompt in which no boundary
    between context and question is found, and any prompt with k=0, gets exactly what the plain
    backbone gives. Safe to call from several threads.

    `backbone` is the model of transformers; `frozen` is the `Backbone`, which holds it, its tokenizer and the
    place for virtual tokens, and which any number of models share.

    With a backbone in `folder`, and its tokens in `file`:

    >>> from spring_integrations import SpringModel
    >>> model = SpringModel.from_pretrained(folder, file)
    >>> prompt = model.prompt(["Lima is the capital of Peru."], "What is the capital of Peru?")
    >>> plain, spring = (model.generate(prompt, k=k, max_new_tokens=4)[0] for k in (0, 8))
    >>> plain.k, spring.k, spring.boundary
    (0, 8, 'explicit')
    >>> spring.prompt_tokens - plain.prompt_tokens
    8
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
        on_missing_boundary: OnMissingBoundary = "once",
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
            on_missing_boundary: what to do with a prompt without a boundary, in which a model with tokens uses
                none: warn once, say nothing, warn every time, or raise.
            on_too_long: warn when passages are dropped, or raise.
            on_other_backbone: what to do when the tokens name another backbone.
            context_cache: keeps contexts for other questions, another k and k=0 (how exact: `ContextCache`).

        Raises:
            SettingsError: if the tokenizer is missing, for a word that is not one of a setting's choices, or for
                settings and a cache of another type.
            BackboneError: if the model is an encoder-decoder.
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
        self.k, self.boundary_rule = _checked(
            tokens,
            k=k,
            settings=settings,
            boundary_rule=boundary_rule,
            on_missing_boundary=on_missing_boundary,
            on_too_long=on_too_long,
            on_other_backbone=on_other_backbone,
            context_cache=context_cache,
        )
        self._backbone = backbone
        self.tokens = tokens
        self.settings = settings or GenerationSettings()
        self.on_missing_boundary = on_missing_boundary
        self.on_too_long = on_too_long
        self.context_cache = context_cache
        self.loaded_with: dict[str, Any] | None = None
        """What `from_pretrained` loaded it with; None for a model made of loaded objects."""
        self._once = Once()
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
        boundary_rule: str | BoundaryRule | None = None,
        on_missing_boundary: OnMissingBoundary = "once",
        on_too_long: OnTooLong = "warn",
        on_other_backbone: OnOtherBackbone = "warn",
        context_cache: ContextCache | None = None,
        **loading: Unpack[LoadArguments],
    ) -> SpringModel:
        """Loads a backbone (local folder, hub id, or "demo") and its tokens.

        Args:
            model_id: the backbone.
            tokens_path: its tokens, a file, a folder or a hub reference. It may be left out for "demo", which
                brings its own; another backbone is plain then.
            k: virtual tokens to use unless a call says otherwise; None means all.
            settings: generation settings unless a call says otherwise.
            boundary_rule: the user's own rule (see `BoundaryRule.from_user`).
            on_missing_boundary: what to do with a prompt without a boundary.
            on_too_long: warn when passages are dropped, or raise.
            on_other_backbone: what to do when the tokens name another backbone.
            context_cache: keeps contexts for other questions, another k and k=0.
            loading: fields of `LoadOptions`, as transformers' `from_pretrained` names them.

        Raises:
            BackboneError: if the backbone cannot be loaded.
            TokensError: if the tokens cannot be loaded or do not fit.
            TokenCountError: if k is outside 0…n.
            SettingsError: for an unknown option, an impossible dtype, a word that is not one of a setting's choices, or
                settings and a cache of another type.
        """
        loaded_with = {"model_id": model_id, "tokens_path": tokens_path, **loading}
        if tokens_path is None and (named := named_model(model_id)):
            tokens_path = named.tokens
        tokens = None if tokens_path is None else SpringTokens.load(tokens_path)
        own: dict[str, Any] = {
            "k": k,
            "settings": settings,
            "boundary_rule": boundary_rule,
            "on_missing_boundary": on_missing_boundary,
            "on_too_long": on_too_long,
            "on_other_backbone": on_other_backbone,
            "context_cache": context_cache,
        }
        _checked(tokens, **own)  # now, and not after the weights are read
        model = cls(Backbone.load(model_id, **loading), tokens=tokens, **own)
        model.loaded_with = loaded_with
        return model

    @property
    def backbone(self) -> PreTrainedModel:
        """The transformers model."""
        return self._backbone.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The transformers tokenizer, as it was loaded."""
        return self._backbone.tokenizer

    @property
    def frozen(self) -> Backbone:
        """The `Backbone`, to make further models with other tokens on it."""
        return self._backbone

    shared = Renamed("frozen")

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
        changed = type(self)(self._backbone, **own | changes)
        if "tokens" not in changes:
            changed._once = self._once
        return changed

    def __copy__(self) -> SpringModel:
        """Returns another model on the same weights."""
        return self.with_changes()

    def __deepcopy__(self, memo: Any) -> SpringModel:
        """Returns another model on the same weights, which no copy is made of."""
        return self.with_changes()

    def __reduce__(self) -> tuple[Any, ...]:
        """Raises SettingsError: weights are not pickled."""
        msg = f"a SpringModel ({self.name}) cannot be pickled; pickle how it was loaded, and load it again"
        raise SettingsError(msg)

    def detach(self) -> None:
        """Restores the backbone's own embedding module; this model is the plain backbone then."""
        self._backbone.detach()
        self.tokens, self.k = None, 0

    def prompt(self, passages: Sequence[Passage | str], question: str) -> RagPrompt:
        """Writes the paper's prompt, with this tokenizer's control tokens neutralised in passages.

        Args:
            passages: best first; a text has no title.
            question: the question.

        Raises:
            PromptError: if the question is empty.
            ArgumentsError: if passages or question are of the wrong kind, or swapped.
        """
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
            SettingsError: for an unknown setting or an impossible value, also an answer longer than the window, or
                more beams than there is memory for.
        """
        encoded, wanted = self._read(check_prompts(prompts, (str, RagPrompt)), k, settings)
        return [result(e, c) for e, c in zip(encoded, self._complete(encoded, wanted), strict=True)]

    def stream(
        self, prompt: str | RagPrompt, *, k: int | None = None, **settings: Any
    ) -> Generator[str | Generation, None, None]:
        """Yields pieces of the answer as they are generated, and at last the `Generation`.

        The pieces together are the text that `generate` returns. Closing the iterator stops the
        model. Arguments and errors are those of `generate`.

        Args:
            prompt: a text, with a mark or without, or a `RagPrompt`.
            k: virtual tokens; None means those of the model.
            settings: fields of `GenerationSettings`.
        """
        (encoded,), wanted = self._read([prompt], k, settings)
        ids, context = encoded.ids, encoded.context
        pieces = generation.stream(self._backbone, ids, wanted, context=context, cache=self.context_cache)
        return results(encoded, pieces)

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

        Raises:
            ArgumentsError: if `answers` is a string.
            PromptError: as `generate`.
            TokenCountError: if k is outside 0…n.
        """
        ids = [self._backbone.text_ids(answer) for answer in check_answers(answers)]
        if add_eos:
            ids = [i + self._backbone.eos_ids[:1] for i in ids]
        encoded = self._encode(prompt, k, AnswerRoom.of_given(ids))
        return generation.score(self._backbone, [encoded.ids] * len(ids), ids)

    def count_tokens(self, text: str) -> int:
        """Returns the number of tokens of a text, special tokens not counted."""
        return len(self._backbone.text_ids(text))

    def _read(
        self, prompts: Sequence[str | RagPrompt], k: int | None, settings: dict[str, Any]
    ) -> tuple[list[Encoded], GenerationSettings]:
        """Returns what the model reads for each prompt, and the settings of a call."""
        wanted = self.settings.with_changes(settings)
        room = AnswerRoom(wanted.max_new_tokens)
        check_answer_fits(self._backbone, room)
        return [self._encode(p, k, room) for p in prompts], wanted

    def _complete(self, encoded: Sequence[Encoded], settings: GenerationSettings) -> list[Completion]:
        """Returns what is written after each prompt."""
        rows, contexts = [e.ids for e in encoded], [e.context for e in encoded]
        return waiting.generate(self._backbone, rows, settings, contexts=contexts, cache=self.context_cache)

    def _encode(self, prompt: str | RagPrompt, k: int | None, room: AnswerRoom) -> Encoded:
        (prompt,) = check_prompts([prompt], (str, RagPrompt))
        parsed = RagPrompt.parse(prompt, self.boundary_rule) if isinstance(prompt, str) else prompt.without_marks()
        check_question(parsed.text)
        count = self.k if k is None else resolve_k(self.tokens, k)
        if count and parsed.boundary is None:
            count = 0
            report_missing(parsed, self.on_missing_boundary, self._once)
        virtual = self._backbone.virtual_ids(self.tokens, count)
        fitted = fit(self._backbone, parsed, virtual, room.tokens, "error" if self.on_too_long == "error" else "drop")
        if fitted is None:
            raise PromptTooLongError(self._too_long(parsed, virtual, room))
        if fitted.dropped:
            log.warning(
                "the prompt does not fit the %d positions of %s: left out the %d lowest-ranked passage(s), %d kept",
                self.window, self.name, fitted.dropped, len(fitted.prompt.passage_ends),
            )  # fmt: skip
        context = self._context(fitted.prompt, fitted.ids, virtual)
        return Encoded(fitted.ids, count, parsed.boundary, fitted.dropped, context)

    def _context(self, prompt: RagPrompt, ids: list[int], virtual: range) -> list[int]:
        """Returns the ids before the boundary, the same for every k; [] if they are not to be kept."""
        if self.context_cache is None or prompt.boundary is None:
            return []
        if not virtual:
            ids = self._backbone.encode(prompt, virtual := range(-1, 0))  # no other id is negative
        return ids[: ids.index(virtual[0])]

    def _too_long(self, prompt: RagPrompt, virtual: range, room: AnswerRoom) -> str:
        if self.on_too_long == "warn":
            prompt = prompt.with_passages(1)
        return (
            f"the prompt has {len(self._backbone.encode(prompt, virtual))} tokens (k={len(virtual)} virtual ones "
            f"included) and {room}, together more than the {self.window} positions of {self.name}; "
            f"shorten the question or the passages, retrieve fewer of them, or {room.advice}"
        )


def check_actions(on_missing_boundary: str, on_too_long: str, on_other_backbone: str) -> None:
    """Raises SettingsError for a word that is not one of those that say what to do in the three cases."""
    check_choice("on_missing_boundary", on_missing_boundary, OnMissingBoundary)
    check_choice("on_too_long", on_too_long, OnTooLong)
    check_choice("on_other_backbone", on_other_backbone, OnOtherBackbone)


def _checked(
    tokens: SpringTokens | None,
    *,
    k: int | None,
    settings: GenerationSettings | None,
    boundary_rule: str | BoundaryRule | None,
    on_missing_boundary: OnMissingBoundary,
    on_too_long: OnTooLong,
    on_other_backbone: OnOtherBackbone,
    context_cache: ContextCache | None,
) -> tuple[int, BoundaryRule | None]:
    """Checks what a model is made with, but for its backbone; returns its k and its own boundary rule."""
    check_actions(on_missing_boundary, on_too_long, on_other_backbone)
    kinds = {"settings": (settings, GenerationSettings), "context_cache": (context_cache, ContextCache)}
    for name, (value, kind) in kinds.items():
        if value is not None and not isinstance(value, kind):
            msg = f"{name} must be a {kind.__name__}, got {type(value).__name__} {value!r}"
            raise SettingsError(msg)
    rule = None if boundary_rule in (None, "") else BoundaryRule.from_user(boundary_rule)
    return resolve_k(tokens, k), rule


__getattr__ = renamed(__name__, count_tokens="resolve_k")
