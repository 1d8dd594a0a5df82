"""A prompt that is too long keeps as many of its best passages as the window holds, in linear time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny_models
from growth import assert_linear, cpu_seconds
from hypothesis import given, settings
from hypothesis import strategies as st

from spring_integrations import RagPrompt, SpringModel
from spring_integrations.errors import PromptTooLongError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.fitting import fit
from spring_integrations.training.objective import encode_example

BACKBONES = {kind: Backbone(*tiny_models.build("llama", kind)) for kind in tiny_models.TOKENIZER_KINDS}
WORDS = "Lima is the capital of Peru, and the river Rímac flows — 東京 🙂 — through it to the sea. \n "


def one_by_one(backbone: Backbone, prompt: RagPrompt, virtual: range, limit: int) -> list[int] | None:
    for count in range(len(prompt.passage_ends), 0, -1):
        ids = backbone.encode(prompt.with_passages(count), virtual)
        if len(ids) <= limit:
            return ids
    return None


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(tiny_models.TOKENIZER_KINDS),
    passages=st.lists(
        st.one_of(st.integers(0, 60).map(lambda n: (WORDS * 8)[: n * 8]), st.text(max_size=60)), min_size=1, max_size=40
    ),
    k=st.integers(0, 8),
    room=st.integers(1, 511),
)
def test_what_is_kept_is_what_dropping_one_by_one_keeps(kind, passages, k, room) -> None:
    backbone = BACKBONES[kind]
    prompt, virtual = RagPrompt.from_passages(passages, "capital of Peru?"), range(10_000, 10_000 + k)
    wanted = one_by_one(backbone, prompt, virtual, backbone.window - room)
    got = fit(backbone, prompt, virtual, room)
    assert (got and got.ids) == wanted
    if got:
        assert got.prompt == prompt.with_passages(len(passages) - got.dropped)
        assert (fit(backbone, prompt, virtual, room, "error") is None) == (got.dropped > 0)


@pytest.mark.parametrize("kind", ["byte-level", "prepend", "metaspace-first", "wordpiece"])
@pytest.mark.parametrize(
    "passages", [["Lima is the capital of Peru. " * 35] * 1000, ["Lima " * 8] * 25_000, ["x"] * 20_000]
)
def test_the_time_for_many_passages_is_linear(kind, passages, random_tokens) -> None:
    model = SpringModel(BACKBONES[kind], tokens=random_tokens)
    virtual = range(10_000, 10_008)

    def fit_both(count: int) -> Callable[[], object]:
        prompt = model.prompt(["Lima.", *passages[:count]], "capital?")
        return lambda: (
            fit(model.frozen, prompt, virtual, 64),
            encode_example(model.frozen, prompt, "Lima", virtual),
        )

    fitted, example = fit_both(len(passages))()
    assert fitted is not None
    assert fitted.dropped > len(passages) // 2
    assert len(example.before) > 0
    assert_linear(fit_both, len(passages))


def test_one_passage_that_cannot_fit_is_not_tried_again_and_again(spring_llama) -> None:
    prompt = spring_llama.prompt(["Lima " * 40_000] * 2, "capital?")

    def generate() -> None:
        with pytest.raises(PromptTooLongError, match=r"the prompt has \d+ tokens"):
            spring_llama.generate(prompt)

    assert cpu_seconds(generate) < 8 * cpu_seconds(lambda: spring_llama.frozen.text_ids(prompt.text))
