"""Contexts that are kept change no answer, whatever the architecture, the batch and k, and stay within their bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny_models
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from spring_integrations import GenerationSettings, RagPrompt, SpringModel
from spring_integrations.errors import SettingsError
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.context_cache import ContextCache, prefix_cache_obstacle

PASSAGES = ("Lima is the capital of Peru.", "The river Rímac flows to the sea.", "Röntgen got the prize.")
PROMPTS = [
    RagPrompt.from_passages(PASSAGES[:1], "capital of Peru?"),
    "Lima",
    RagPrompt.from_passages(PASSAGES, "who got the first Nobel Prize in Physics?"),
    RagPrompt.from_passages(PASSAGES, "capital?"),
    RagPrompt.from_passages(PASSAGES[1:], "which river?"),
]
CACHED = tuple(family for family in (*tiny_models.ARCHITECTURES, "qwen3") if family != "gemma2")
UNCACHED = ("mistral-sliding", "mamba", "mpt", "lfm2")
SAMPLED = {"temperature": 1.5, "top_k": 40, "seed": 3}


def pair(family: str, tokens, max_bytes: int = 1 << 20) -> tuple[SpringModel, SpringModel]:
    """Returns a model without and one with a cache, on one backbone."""
    settings = GenerationSettings(max_new_tokens=10)
    model = SpringModel(*tiny_models.build(family), tokens, settings=settings)
    return model, model.with_changes(context_cache=ContextCache(max_bytes))


def positions_run(model: SpringModel, *calls) -> list[int]:
    """Returns how many positions each forward pass of some calls ran."""
    lengths: list[int] = []
    embedding = model.backbone.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda module, inputs, output: lengths.append(inputs[0].shape[1]))
    for call in calls:
        call()
    hook.remove()
    return lengths


@pytest.mark.parametrize("family", CACHED)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"repetition_penalty": 1.7}, SAMPLED], ids=str)
def test_answers_are_those_without_a_cache(family, options, random_tokens) -> None:
    plain, cached = pair(family, random_tokens)
    for k in (0, 8, 1, 0, 3):
        assert cached.generate(PROMPTS, k=k, **options) == plain.generate(PROMPTS, k=k, **options)
    assert cached.context_cache.misses == 3, "each context is computed once: two prompts share one"
    assert cached.context_cache.hits == 4 * 3


@pytest.mark.parametrize("family", ["gemma2", *UNCACHED])
def test_architectures_whose_cache_would_not_be_exact_do_without(family, random_tokens) -> None:
    plain, cached = pair(family, random_tokens)
    for k in (0, 8):
        assert cached.generate(PROMPTS, k=k) == plain.generate(PROMPTS, k=k)
    assert len(cached.context_cache) == 0
    assert prefix_cache_obstacle(cached.frozen, 300)


def test_a_sliding_window_that_holds_the_prompt_is_no_obstacle(random_tokens) -> None:
    plain, cached = pair("gemma2", random_tokens)
    prompt = RagPrompt.from_passages(["Lima."], "capital?")
    for k in (0, 3, 8):
        assert cached.generate(prompt, k=k) == plain.generate(prompt, k=k)
    assert (cached.context_cache.misses, cached.context_cache.hits) == (1, 2)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_streams_take_contexts_too(family, random_tokens) -> None:
    plain, cached = pair(family, random_tokens)
    for prompt in (*PROMPTS, *PROMPTS):
        assert list(cached.stream(prompt)) == list(plain.stream(prompt))
    assert (cached.context_cache.misses, cached.context_cache.hits) == (3, 5)


def test_a_known_context_is_not_run_again(random_tokens) -> None:
    plain, cached = pair("llama", random_tokens)
    prompt = PROMPTS[2]
    whole = len(plain.frozen.encode(prompt, range(0)))
    first = positions_run(plain, lambda: plain.generate(prompt, k=4, max_new_tokens=1))
    before = len(plain.frozen.encode(RagPrompt(prompt.before, "", None), range(0)))
    assert first == [whole + 4]
    calls = [lambda k=k: cached.generate(prompt, k=k, max_new_tokens=1) for k in (4, 2)]
    assert positions_run(cached, *calls) == [before, whole - before + 4, whole - before + 2]
    other = RagPrompt.from_passages(PASSAGES, "which river flows to the sea?")
    rest = len(plain.frozen.encode(other, range(0))) - before
    assert positions_run(cached, lambda: cached.generate(other, k=1, max_new_tokens=1)) == [rest + 1]


def test_text_that_is_split_otherwise_without_tokens_shares_what_it_can(random_tokens) -> None:
    plain, cached = pair("llama", random_tokens)
    prompt = RagPrompt("[1] Lima is the cap", "ital of Peru?")  # one word across the boundary
    ids = [plain.frozen.encode(prompt, virtual) for virtual in (range(0), range(1000, 1001))]
    at = ids[1].index(1000)
    assert ids[0][:at] != ids[1][:at], "the case is to be one"
    for k in (8, 0, 3):
        assert cached.generate(prompt, k=k) == plain.generate(prompt, k=k)
    assert cached.context_cache.misses == 1


@limits(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.text(min_size=1, max_size=40), after=st.text(min_size=1, max_size=20).filter(str.strip))
def test_any_text_gives_the_same_answer(spring_llama, before, after) -> None:
    cached = spring_llama.with_changes(context_cache=ContextCache())
    prompt = RagPrompt(before, after)
    for k in (0, 2):
        assert cached.generate(prompt, k=k, max_new_tokens=4) == spring_llama.generate(prompt, k=k, max_new_tokens=4)


def test_without_a_cache_the_plain_backbone_is_bit_identical(llama, random_tokens) -> None:
    model, tokenizer = llama
    inputs = tokenizer(PROMPTS[2].text, return_tensors="pt")
    seen: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    model.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=0)
    alone, seen = seen, []
    SpringModel(model, tokenizer, random_tokens).generate(PROMPTS[2], k=0, max_new_tokens=6)
    hook.remove()
    assert len(alone) == 6
    assert all(torch.equal(a[:, -1], b[:, -1]) for a, b in zip(alone, seen, strict=True))


def test_bytes_are_bounded_and_the_least_recently_used_goes_first(random_tokens) -> None:
    plain, cached = pair("llama", random_tokens)
    for prompt in (PROMPTS[0], PROMPTS[2]):
        cached.generate(prompt)
    room = cached.context_cache.bytes
    _, cached = pair("llama", random_tokens, room)
    for prompt in (PROMPTS[0], PROMPTS[2], PROMPTS[0], PROMPTS[4]):
        assert cached.generate(prompt) == plain.generate(prompt)
        assert cached.context_cache.bytes <= room
    misses = cached.context_cache.misses
    cached.generate(PROMPTS[0])
    assert cached.context_cache.misses == misses, "was used more recently than the one that went"
    cached.generate(PROMPTS[2])
    assert cached.context_cache.misses == misses + 1


def test_a_context_that_is_too_large_is_used_and_not_kept(random_tokens) -> None:
    plain, cached = pair("llama", random_tokens, 1000)
    assert cached.generate(PROMPTS) == plain.generate(PROMPTS)
    assert (len(cached.context_cache), cached.context_cache.bytes) == (0, 0)


def test_clear_forgets_all(random_tokens) -> None:
    _, cached = pair("llama", random_tokens)
    cached.generate(PROMPTS)
    cached.context_cache.clear()
    assert (len(cached.context_cache), cached.context_cache.bytes) == (0, 0)


def test_backbones_that_share_a_cache_do_not_share_contexts(random_tokens) -> None:
    cache = ContextCache()
    settings = GenerationSettings(max_new_tokens=10)
    parts = [tiny_models.build("llama", seed=seed) for seed in (0, 1)]
    cached = [SpringModel(*part, random_tokens, settings=settings, context_cache=cache) for part in parts]
    plain = [model.with_changes(context_cache=None) for model in cached]
    assert [m.generate(PROMPTS) for m in cached] == [m.generate(PROMPTS) for m in plain]
    assert len(cache) == 2 * 3


def test_threads_share_a_cache(random_tokens) -> None:
    plain, cached = pair("llama", random_tokens, 30_000)
    jobs = [(prompt, k) for k in (0, 3, 8) for prompt in PROMPTS] * 2
    alone = [plain.generate(prompt, k=k) for prompt, k in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda job: cached.generate(job[0], k=job[1]), jobs)) == alone
    assert cached.context_cache.bytes <= 30_000


def test_a_cache_without_room_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_bytes=0"):
        ContextCache(0)


@pytest.mark.parametrize("family", CACHED)
def test_usual_architectures_have_no_obstacle(family) -> None:
    assert prefix_cache_obstacle(Backbone(*tiny_models.build(family)), 300) == ""


@pytest.mark.parametrize("stage", [1, 3, 64])
def test_rows_that_end_leave_the_batch_and_the_others_go_on(random_tokens, monkeypatch, stage) -> None:
    plain, cached = pair("llama", random_tokens)
    stop = [text[2:4] for g in plain.generate(PROMPTS[2:]) if len(text := g.text) > 6][:1]
    expected = plain.generate(PROMPTS, stop=stop, max_new_tokens=20)
    assert len({g.completion_tokens for g in expected}) > 1, "rows are to end at different steps"
    monkeypatch.setattr("spring_integrations.runtime.generation.STAGE", stage)
    sizes: list[int] = []
    generate = cached.backbone.generate
    monkeypatch.setattr(
        cached.backbone, "generate", lambda **given: sizes.append(len(given["input_ids"])) or generate(**given)
    )
    assert cached.generate(PROMPTS, stop=stop, max_new_tokens=20) == expected
    with_context = sizes[:-1] if sizes[-1] == 1 else sizes
    assert with_context == sorted(with_context, reverse=True)
    assert (len(sizes) > 2) == (stage < 20)
