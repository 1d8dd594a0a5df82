"""The prefix-cached objective equals full back-propagation, whatever the architecture, the batch and k."""

from __future__ import annotations

import logging

import pytest
import tiny_models
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spring_integrations import RagPrompt, SpringModel, SpringTokens
from spring_integrations.errors import PromptTooLongError, TokensError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import Example, spring_loss
from spring_integrations.training.objective import EncodedExample, encode_example, full_loss, prefix_cache_obstacle

EXAMPLES = (
    Example("capital of Peru", ("Lima",), ("Lima is the capital of Peru.", "The river flows to the sea.")),
    Example("who got the prize", ("Wilhelm Conrad Röntgen", "Röntgen"), ("The prize was awarded to Röntgen in 1901.",)),
    Example("what is short", ("the answer",), ("The answer is short.", "The context is long.", "Lima is a name.")),
)
N = 6
CACHED = (*tiny_models.ARCHITECTURES, "qwen3")
UNCACHED = ("mamba", "lfm2", "mpt")


def attached(family: str) -> tuple[Backbone, range]:
    backbone = Backbone(*tiny_models.build(family))
    tokens = SpringTokens(torch.randn(N, tiny_models.WIDTH, generator=torch.Generator().manual_seed(1)))
    first = backbone.attach(tokens)
    return backbone, range(first, first + N)


def encoded(backbone: Backbone, ids: range, examples: tuple[Example, ...] = EXAMPLES) -> list[EncodedExample]:
    prompts = [RagPrompt.from_passages(e.passages, e.question) for e in examples]
    return [encode_example(backbone, p, e.targets[0], ids) for p, e in zip(prompts, examples, strict=True)]


def loss_and_gradient(backbone: Backbone, compute) -> tuple[float, torch.Tensor]:
    embedding = backbone.model.get_input_embeddings()
    table = torch.nn.Parameter(embedding.table.detach().clone())
    embedding.table = table
    loss = compute()
    loss.backward()
    return loss.item(), table.grad


def assert_same(first: tuple[float, torch.Tensor], second: tuple[float, torch.Tensor]) -> None:
    assert first[0] == pytest.approx(second[0], abs=1e-5)
    assert second[1].norm() > 0
    assert (first[1] - second[1]).norm() <= 1e-4 * second[1].norm()


@pytest.mark.parametrize("family", [*CACHED, "mistral-sliding", *UNCACHED])
def test_objective_equals_full_back_propagation(family: str) -> None:
    backbone, ids = attached(family)
    batch = encoded(backbone, ids)
    assert len({len(e.before) for e in batch}) > 1, "the batch is to be ragged"
    ours = loss_and_gradient(backbone, lambda: spring_loss(backbone, batch, [ids[:4]]))
    full = loss_and_gradient(backbone, lambda: full_loss(backbone, batch, ids[:4]))
    assert_same(ours, full)
    assert not ours[1][4:].any(), "tokens beyond k got a gradient"


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral-sliding"])
def test_loss_of_a_batch_is_that_of_its_rows_alone(family: str) -> None:
    backbone, ids = attached(family)
    batch = encoded(backbone, ids)
    items = sum(e.answer_length for e in batch)
    together = loss_and_gradient(backbone, lambda: spring_loss(backbone, batch, [ids]))
    alone = loss_and_gradient(backbone, lambda: sum(spring_loss(backbone, [e], [ids], items) for e in batch))
    assert_same(together, alone)


def test_several_k_share_a_context_and_are_averaged() -> None:
    backbone, ids = attached("llama")
    batch = encoded(backbone, ids)
    samples = [ids[:1], ids[:4], ids]
    together = loss_and_gradient(backbone, lambda: spring_loss(backbone, batch, samples))
    apart = loss_and_gradient(backbone, lambda: sum(full_loss(backbone, batch, s) for s in samples) / len(samples))
    assert_same(together, apart)


def test_context_is_run_once_and_without_gradient() -> None:
    backbone, ids = attached("llama")
    batch = encoded(backbone, ids)
    lengths = []
    hook = backbone.model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: lengths.append((inputs[0].shape[1], output.requires_grad))
    )
    loss_and_gradient(backbone, lambda: spring_loss(backbone, batch, [ids[:2], ids]))
    hook.remove()
    assert [gradient for _, gradient in lengths] == [False, True, True]
    assert lengths[0][0] == max(len(e.before) for e in batch)
    assert lengths[1][0] == max(len(e.after) for e in batch) + 2


@pytest.mark.parametrize("family", [*UNCACHED, "mistral-sliding"])
def test_fallback_is_logged(family: str, caplog: pytest.LogCaptureFixture) -> None:
    backbone, ids = attached(family)
    caplog.set_level(logging.WARNING)
    spring_loss(backbone, encoded(backbone, ids, EXAMPLES * 2), [ids])
    obstacle = prefix_cache_obstacle(backbone, 300)
    assert obstacle
    assert caplog.text.count("training by full back-propagation: ") <= 1, "said once, not at every step"


@pytest.mark.parametrize("family", CACHED)
def test_usual_architectures_need_no_fallback(family: str) -> None:
    short = 40  # gemma2's window here is 64
    assert prefix_cache_obstacle(Backbone(*tiny_models.build(family)), short) == ""


def test_loss_is_the_likelihood_that_score_reports(spring_llama: SpringModel) -> None:
    prompt = RagPrompt.from_passages(EXAMPLES[0].passages, EXAMPLES[0].question)
    ids = range(len(spring_llama.tokenizer), len(spring_llama.tokenizer) + 8)
    example = encode_example(spring_llama.frozen, prompt, "Lima", ids)
    loss = spring_loss(spring_llama.frozen, [example], [ids])
    (score,) = spring_llama.score(prompt, [" Lima"], add_eos=True)
    assert -score / example.answer_length == pytest.approx(loss.item(), rel=1e-4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    question=st.text(min_size=1, max_size=30).filter(str.strip),
    passage=st.text(min_size=1, max_size=60),
    answer=st.text(min_size=1, max_size=20).filter(str.strip),
)
def test_training_reads_the_very_ids_of_inference(
    spring_llama: SpringModel, question: str, passage: str, answer: str
) -> None:
    backbone = spring_llama.frozen
    ids = range(10_000, 10_004)
    prompt = RagPrompt.from_passages([passage], question, special_tokens=backbone.special_tokens)
    example = encode_example(backbone, prompt, answer, ids)
    prompt_ids = example.before + list(ids) + example.after[: len(example.after) - example.answer_length]
    assert prompt_ids == backbone.encode(prompt, ids)
    assert example.after[-1] == backbone.eos_ids[0]
    decoded = backbone.tokenizer.decode(example.after[-example.answer_length : -1])
    assert decoded.strip() == answer.strip()


def test_too_long_examples_lose_passages_and_then_fail(spring_llama: SpringModel) -> None:
    backbone = spring_llama.frozen
    ids = range(10_000, 10_004)
    passages = ["Lima is the capital of Peru. " * 8, "The river flows to the sea. " * 40]
    example = encode_example(backbone, RagPrompt.from_passages(passages, "capital"), "Lima", ids)
    alone = encode_example(backbone, RagPrompt.from_passages(passages[:1], "capital"), "Lima", ids)
    assert example == alone
    with pytest.raises(PromptTooLongError, match="of 512 positions"):
        encode_example(backbone, RagPrompt.from_passages(["p"], "why " * 600), "Lima", ids)


def test_a_step_without_virtual_tokens_is_refused(spring_llama: SpringModel) -> None:
    with pytest.raises(TokensError, match="at least one virtual token"):
        spring_loss(spring_llama.frozen, [EncodedExample([1, 2], [3], 1)], [range(0)])
