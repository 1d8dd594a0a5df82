"""Rows become batches, and batches go through a model, in one place."""

from __future__ import annotations

import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st

from spring_integrations import Passage, RagPrompt, SpringModel
from spring_integrations.decoding import RagDecoder
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import forward, micro_batches, pad, pad_for
from spring_integrations.runtime.context_cache import ContextCache

PASSAGES = ("Lima is the capital of Peru.", "The river flows to the sea.", "Röntgen got the prize in 1901.")
PROMPTS = [RagPrompt.from_passages(PASSAGES[:n], "capital of Peru?") for n in (1, 2, 3)]
ROWS = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=5)


@given(rows=ROWS, side=st.sampled_from(["left", "right"]))
def test_a_mask_comes_from_the_lengths_and_gives_the_rows_back(rows, side) -> None:
    ids, mask = pad(rows, 0, side=side)
    assert ids.dtype == mask.dtype == torch.int64
    assert [row[kept.bool()].tolist() for row, kept in zip(ids, mask, strict=True)] == rows
    edge = mask if side == "right" else mask.flip(1)
    assert all(kept == sorted(kept, reverse=True) for kept in edge.tolist()), "one run of ones at that side"


@given(rows=ROWS, extra=st.integers(0, 5), beams=st.integers(1, 3))
def test_micro_batches_hold_every_row_once_and_stay_within_the_budget(rows, extra, beams) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spring_integrations.runtime.batching.MAX_BATCH_TOKENS", 20)
        parts = list(micro_batches(rows, extra=extra, beams=beams))
    assert sorted(i for part in parts for i in part) == list(range(len(rows)))
    for part in parts:
        assert len(part) == 1 or len(part) * beams * (max(len(rows[i]) for i in part) + extra) <= 20


def head_inputs(model, call) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    hook = model.get_output_embeddings().register_forward_hook(lambda module, args, output: seen.append(args[0]))
    call()
    hook.remove()
    return seen


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.generate(PROMPTS, max_new_tokens=2),
        lambda model: model.generate(PROMPTS, max_new_tokens=2, num_beams=2),
        lambda model: model.with_changes(context_cache=ContextCache()).generate(PROMPTS, max_new_tokens=2),
        lambda model: list(model.stream(PROMPTS[0], max_new_tokens=2)),
        lambda model: model.score(PROMPTS[0], [" Lima", " Peru and the sea", " x"]),
        lambda model: RagDecoder(model).answer("capital?", [Passage(p, score=1.0) for p in PASSAGES], max_new_tokens=2),
    ],
    ids=["generate", "beams", "cache", "stream", "score", "decoding"],
)
def test_the_head_reads_one_block_of_the_last_positions(spring_llama: SpringModel, call) -> None:
    seen = head_inputs(spring_llama.backbone, lambda: call(spring_llama))
    assert seen
    assert all(block.is_contiguous() for block in seen)
    assert all(block.shape[1] <= 20 for block in seen), "never the whole prompt"


@pytest.mark.parametrize("family", [*tiny_models.ARCHITECTURES, "mpt", "mamba"])
def test_logits_of_the_last_positions_are_those_of_a_whole_run(family) -> None:
    backbone = Backbone(*tiny_models.build(family))
    rows = [backbone.encode(prompt, range(0)) for prompt in PROMPTS]
    with torch.no_grad():
        alone = [backbone.model(torch.tensor([row])).logits[0, -3:] for row in rows]
        got = []
        blocks = head_inputs(
            backbone.model, lambda: got.append(forward(backbone, *pad_for(backbone, rows[:1]), keep=3))
        )
        assert torch.allclose(got[0][0], alone[0], atol=1e-4)
        assert [block.shape[1] for block in blocks] == [3]
        if family in ("mpt", "mamba", "gemma2"):  # padding is not masked out exactly there
            return
        together = forward(backbone, *pad_for(backbone, rows), keep=3)
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)


def test_the_hook_goes_when_the_model_fails(spring_llama: SpringModel) -> None:
    head = spring_llama.backbone.get_output_embeddings()
    with pytest.raises(IndexError):
        forward(spring_llama.frozen, torch.full((1, 3), -(10**6)), torch.ones(1, 3, dtype=torch.long))
    assert not head._forward_pre_hooks
