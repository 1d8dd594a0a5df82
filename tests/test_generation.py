"""Batches, streams, stop strings, sampling and scores: one result, however a row is run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny_models
import torch
from hypothesis import assume, example, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from tokenizers import decoders, models

from spring_integrations import GenerationSettings, Passage, RagPrompt, SpringModel
from spring_integrations.decoding import RagDecoder
from spring_integrations.errors import SettingsError
from spring_integrations.runtime import room
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.batching import pad
from spring_integrations.runtime.context_cache import prefix_cache_obstacle
from spring_integrations.runtime.detokenize import Reader
from spring_integrations.runtime.generation import generate

PASSAGES = ("Lima is the capital of Peru.", "The river Rímac flows to the sea.", "Röntgen got the prize.")
PROMPTS = [
    RagPrompt.from_passages(PASSAGES[:1], "capital of Peru?"),
    "Lima",
    RagPrompt.from_passages(PASSAGES, "who got the first Nobel Prize in Physics?"),
    "The answer is a short name; the answer is a short name; the answer",
]
LENGTH = 12


def spring(family: str, tokens, **options) -> SpringModel:
    return SpringModel(
        *tiny_models.build(family), tokens, settings=GenerationSettings(max_new_tokens=LENGTH), **options
    )


def pieces_of(model: SpringModel, prompt, **options) -> tuple[list[str], object]:
    *pieces, end = model.stream(prompt, **options)
    return pieces, end


@pytest.mark.parametrize("family", tiny_models.ARCHITECTURES)
def test_a_row_does_not_depend_on_its_neighbours(family, random_tokens) -> None:
    model = spring(family, random_tokens)
    together = model.generate(PROMPTS, k=5)
    alone = [model.generate(prompt, k=5)[0] for prompt in PROMPTS]
    assert together == alone
    assert [g.k for g in together] == [5, 0, 5, 0]


def test_one_batch_mixes_k(random_tokens) -> None:
    model = spring("gpt2", random_tokens)
    rows = [
        model.frozen.encode(PROMPTS[0], range(first := model.frozen.attach(random_tokens), first + k))
        for k in (0, 2, 8)
    ]
    alone = [model.generate(PROMPTS[0], k=k)[0].text for k in (0, 2, 8)]
    assert len(set(alone)) == 3
    assert [c.text for c in generate(model.frozen, rows, model.settings)] == alone


def test_micro_batches_change_nothing(random_tokens, monkeypatch) -> None:
    model = spring("llama", random_tokens)
    whole = model.generate(PROMPTS)
    monkeypatch.setattr("spring_integrations.runtime.batching.MAX_BATCH_TOKENS", 60)
    assert model.generate(PROMPTS) == whole


@pytest.mark.parametrize("family", tiny_models.ARCHITECTURES)
@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"temperature": 2.0, "seed": 4}], ids=str)
def test_a_cpu_reads_rows_in_parts_and_answers_as_in_one(family, options, random_tokens, monkeypatch) -> None:
    model = spring(family, random_tokens)
    read: list[int] = []
    model.backbone.get_input_embeddings().register_forward_hook(lambda _, ids, __: read.append(ids[0].numel()))
    answers = {}
    for positions in (1, 10_000):
        monkeypatch.setattr("spring_integrations.runtime.batching.CPU_READ_TOKENS", positions)
        read.clear()
        answers[positions] = model.generate(PROMPTS, max_new_tokens=8, **options)
        if positions == 1:
            longest = max(answer.prompt_tokens for answer in answers[positions])
            assert (max(read) < longest) != bool(prefix_cache_obstacle(model.frozen, longest + 8))
    assert answers[1] == answers[10_000]
    assert answers[1][0] == model.generate(PROMPTS[0], max_new_tokens=8, **options)[0]


@pytest.mark.parametrize("family", tiny_models.ARCHITECTURES)
@pytest.mark.parametrize("options", [{}, {"k": 0, "temperature": 2.0, "seed": 4}])
def test_stream_equals_generate(family, options, random_tokens) -> None:
    model = spring(family, random_tokens)
    for prompt in PROMPTS[:3]:
        pieces, end = pieces_of(model, prompt, max_new_tokens=30, **options)
        assert [end] == model.generate(prompt, max_new_tokens=30, **options)
        assert "".join(pieces) == end.text


@pytest.mark.parametrize("kind", tiny_models.TOKENIZER_KINDS)
@limits(max_examples=30, deadline=None)
@given(numbers=st.lists(st.integers(0, 389), min_size=1, max_size=12))
@example(numbers=[3, 0, 131])  # a byte, a special token that is not shown, and a byte that spoils the first
def test_settled_text_is_never_taken_back(kind: str, numbers: list[int]) -> None:
    words = tiny_models.tokenizer(kind)
    reader = Reader(Backbone(_made_llama().backbone, words), ("e ", "an"))
    ids, shown = [n % len(words) for n in numbers], ""
    for n in range(1, len(ids) + 1):
        now = reader.settled(ids[:n])
        assert now.startswith(shown)
        shown = now
    assert reader.text(ids).startswith(shown)


def test_decoders_that_rewrite_the_border_lose_no_text(random_tokens, monkeypatch) -> None:
    model = spring("bert", random_tokens)
    tidy = decoders.Sequence(
        [decoders.WordPiece(cleanup=False), decoders.Fuse(), decoders.Replace(" ; name", "; Name")]
    )
    model.tokenizer.backend_tokenizer.decoder = tidy
    speak(model, monkeypatch, [*_ids(model, "the short ; name holds ; it"), model.tokenizer.eos_token_id])
    pieces, end = pieces_of(model, PROMPTS[0], max_new_tokens=100)
    assert "".join(pieces) == end.text == "the short; Name holds ; it"
    assert len(pieces) > 3


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["##ando", "##s", "the", "short"], "andos the short"),
        (["[SEP]", "##ando", "name"], "ando name"),
        (["##ando"], "ando"),
        (["#", "###", "name"], "## name"),  # two signs that somebody wrote
        (["the", "##ando", "#", "##s"], "theando #s"),
    ],
)
def test_an_answer_that_goes_on_with_a_word_has_no_joining_sign(pieces: list[str], text: str) -> None:
    words = tiny_models.tokenizer("wordpiece")
    core = words.backend_tokenizer
    vocab = core.get_vocab()  # in no order
    for piece in pieces:
        vocab.setdefault(piece, len(vocab))
    core.model = models.WordPiece(vocab, unk_token="[UNK]")
    reader = Reader(Backbone(_made_llama().backbone, words), ())
    ids = words.convert_tokens_to_ids(pieces)
    assert reader.text(ids) == text
    settled = [reader.settled(ids[:n]) for n in range(1, len(ids) + 1)]
    assert all(text.startswith(part) for part in settled)


def _ids(model: SpringModel, text: str) -> list[int]:
    return model.tokenizer(text, add_special_tokens=False).input_ids


def speak(model: SpringModel, monkeypatch, ids: list[int]) -> None:
    """Makes the model generate these ids, whatever the prompt."""
    forward, left = model.backbone.forward, list(ids)

    def scripted(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits[:, -1, left.pop(0)] += 1e4
        return out

    monkeypatch.setattr(model.backbone, "forward", scripted)


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "gemma"])
def test_characters_of_several_tokens_stream_whole(family, random_tokens, monkeypatch) -> None:
    model = spring(family, random_tokens)
    text = "naïve café — 東京 🙂 it's here"
    ids = [*model.tokenizer(text, add_special_tokens=False).input_ids, model.tokenizer.eos_token_id]
    speak(model, monkeypatch, ids)
    pieces, end = pieces_of(model, PROMPTS[0], max_new_tokens=100)
    assert "".join(pieces) == end.text == text
    assert len(pieces) > 5
    assert not any("\ufffd" in piece for piece in pieces)


@limits(max_examples=25, deadline=None)
@given(start=st.integers(0, 20), length=st.integers(1, 6))
def test_stop_strings_end_the_answer_wherever_they_fall(start: int, length: int) -> None:
    model = _made_llama()
    (free,) = model.generate(PROMPTS[2])
    stop = free.text[start : start + length]
    assume(stop)
    (stopped,) = model.generate(PROMPTS[2], stop=stop)
    assert stopped.text == free.text[: free.text.index(stop)]
    assert stopped.finish_reason == "stop"
    assert stopped.completion_tokens <= free.completion_tokens
    pieces, end = pieces_of(model, PROMPTS[2], stop=[stop])
    assert "".join(pieces) == stopped.text
    assert end == stopped


_made: list[SpringModel] = []


def _made_llama() -> SpringModel:
    if not _made:  # hypothesis and function-scoped fixtures do not mix
        _made.append(SpringModel(*tiny_models.build("llama"), settings=GenerationSettings(max_new_tokens=LENGTH)))
    return _made[0]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])  # pad token: none, the end token, one of its own
def test_a_stop_string_ends_only_its_own_row(family, random_tokens) -> None:
    model = spring(family, random_tokens)
    free = model.generate(PROMPTS)
    stop = free[0].text[3:6]
    stopped = model.generate(PROMPTS, stop=[stop])
    for one, other in zip(free, stopped, strict=True):
        assert other.text == (one.text[: one.text.index(stop)] if stop in one.text else one.text)
    assert stopped == [model.generate(prompt, stop=[stop])[0] for prompt in PROMPTS]


def test_a_special_token_as_stop_string(spring_llama, monkeypatch) -> None:
    ids = _ids(spring_llama, "Lima<|im_end|> and more")
    speak(spring_llama, monkeypatch, ids)
    (answer,) = spring_llama.generate(PROMPTS[0], stop="<|im_end|>", max_new_tokens=len(ids))
    assert (answer.text, answer.finish_reason) == ("Lima", "stop")


def test_settings_of_the_checkpoint_do_not_leak_in(spring_llama) -> None:
    expected = spring_llama.generate(PROMPTS)
    theirs = {
        "no_repeat_ngram_size": 1, "repetition_penalty": 5.0, "num_beams": 3, "num_return_sequences": 2,
        "min_new_tokens": 60, "return_dict_in_generate": True, "do_sample": True, "temperature": 9.0, "top_k": 2,
    }  # fmt: skip
    for name, value in theirs.items():
        setattr(spring_llama.backbone.generation_config, name, value)
    assert spring_llama.generate(PROMPTS) == expected


def test_closing_a_stream_stops_the_model(random_tokens, monkeypatch) -> None:
    model = spring("llama", random_tokens)
    ids = _ids(model, "the answer is a short name; " * 30)
    speak(model, monkeypatch, ids)
    forward, calls, go_on = model.backbone.forward, [], threading.Semaphore(10)

    def counted(*args, **kwargs):
        assert go_on.acquire(timeout=10)
        calls.append(1)
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.backbone, "forward", counted)
    stream = model.stream(PROMPTS[0], max_new_tokens=len(ids))
    assert next(stream)  # the model is still at work: it has not been let go further than ten steps
    threading.Timer(0.2, lambda: go_on.release(len(ids))).start()
    stream.close()
    assert len(calls) <= 11


def test_an_error_in_the_model_reaches_the_consumer(random_tokens, monkeypatch) -> None:
    model = spring("llama", random_tokens)

    def broken(*args, **kwargs):
        msg = "out of memory"
        raise RuntimeError(msg)

    monkeypatch.setattr(model.backbone, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(model.stream(PROMPTS[0]))


def test_sampling_is_seeded_and_independent_of_neighbours(random_tokens) -> None:
    model = spring("llama", random_tokens)
    warm = {"temperature": 1.5, "top_k": 50, "top_p": 0.95}
    (one,) = model.generate(PROMPTS[0], seed=3, **warm)
    torch.manual_seed(99)
    assert model.generate(PROMPTS[:1], seed=3, **warm) == [one]
    assert model.generate(PROMPTS, seed=3, **warm)[0] == one
    assert len({g.text for g in model.generate([PROMPTS[0]] * 4, seed=3, **warm)}) > 1
    assert len({model.generate(PROMPTS[0], seed=seed, **warm)[0].text for seed in range(5)}) > 1
    assert model.generate(PROMPTS[0], seed=3, temperature=1.0, top_k=1) == model.generate(PROMPTS[0])


def test_sampling_follows_the_models_distribution() -> None:
    model = _made_llama()
    prompt, draws = "Lima", 400
    texts = [
        g.text
        for s in range(4)
        for g in model.generate([prompt] * 100, max_new_tokens=1, temperature=1.0, seed=1000 * s)
    ]
    ids = torch.tensor([model.tokenizer(prompt).input_ids])
    with torch.inference_mode():
        expected = model.backbone(ids).logits[0, -1].softmax(-1)
    best = int(expected.argmax())
    seen = texts.count(model.tokenizer.decode([best])) / draws
    assert abs(seen - expected[best]) < 4 * (0.25 / draws) ** 0.5


def test_beam_search(random_tokens) -> None:
    model = spring("llama", random_tokens)
    beams = model.generate(PROMPTS, num_beams=3)
    assert [g.text for g in beams] == [model.generate(p, num_beams=3)[0].text for p in PROMPTS]
    scores = [model.score(PROMPTS[1], [g.text])[0] for g in (beams[1], model.generate(PROMPTS[1])[0])]
    assert scores[0] >= scores[1] - 1e-3
    assert list(model.stream(PROMPTS[1], num_beams=3)) == [beams[1].text, beams[1]]


def test_repetition_penalty_ignores_padding_and_virtual_ids(random_tokens) -> None:
    model = spring("llama", random_tokens)
    first = model.tokenizer.convert_ids_to_tokens(_greedy_ids(model, PROMPTS[1], repetition_penalty=1.7)[0])
    model.tokenizer.pad_token = first  # as padding it must not count, though the shortest prompt wants it
    together = model.generate(PROMPTS, repetition_penalty=1.7)
    assert [g.text for g in together] == [model.generate(p, repetition_penalty=1.7)[0].text for p in PROMPTS]
    assert together != model.generate(PROMPTS)
    theirs = _greedy_ids(model, PROMPTS[1], repetition_penalty=1.7)
    assert together[1].text == model.tokenizer.decode(theirs, skip_special_tokens=True)


def _greedy_ids(model: SpringModel, text: str, **options) -> list[int]:
    ids = torch.tensor([model.tokenizer(text).input_ids])
    fixed = {"attention_mask": torch.ones_like(ids), "max_new_tokens": LENGTH, "do_sample": False, "pad_token_id": 0}
    return model.backbone.generate(ids, **fixed, **options)[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("family", tiny_models.ARCHITECTURES)
def test_score_is_the_sum_of_log_probabilities(family, random_tokens) -> None:
    model = spring(family, random_tokens)
    answers = [" Lima", " the capital of Peru is Lima", " Röntgen"]
    scores = model.score(PROMPTS[0], answers, k=3)
    prompt = model.frozen.encode(PROMPTS[0], range(first := model.frozen.attach(random_tokens), first + 3))
    for answer, score in zip(answers, scores, strict=True):
        ids = model.tokenizer(answer, add_special_tokens=False).input_ids
        with torch.inference_mode():
            logits = model.backbone(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        expected = sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(ids))
        assert score == pytest.approx(expected, rel=1e-4)


def test_score_of_nothing_is_zero(spring_llama) -> None:
    assert spring_llama.score(PROMPTS[0], ["", " Lima"])[0] == 0.0
    assert spring_llama.score(PROMPTS[0], []) == []


def test_eight_threads_get_what_each_gets_alone(random_tokens) -> None:
    model = spring("llama", random_tokens)
    jobs = [(prompt, k, streamed) for prompt in PROMPTS for k in (0, 3, 8) for streamed in (False, True)]

    def run(job) -> str:
        prompt, k, streamed = job
        if streamed:
            return "".join(pieces_of(model, prompt, k=k)[0])
        return model.generate(prompt, k=k)[0].text

    alone = [run(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, jobs)) == alone


def test_finish_reason_and_counts(spring_llama, monkeypatch) -> None:
    (cut,) = spring_llama.generate(PROMPTS[0], max_new_tokens=2)
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 2)
    ids = spring_llama.tokenizer("Lima is", add_special_tokens=False).input_ids
    end = spring_llama.tokenizer.convert_tokens_to_ids("<|im_end|>")
    spring_llama.backbone.generation_config.eos_token_id = [spring_llama.tokenizer.eos_token_id, end]
    speak(spring_llama, monkeypatch, [*ids, end])
    (ended,) = spring_llama.generate(PROMPTS[0], max_new_tokens=20)
    assert (ended.text, ended.finish_reason, ended.completion_tokens) == ("Lima is", "stop", len(ids) + 1)


def test_masks_come_from_lengths() -> None:
    ids, mask = pad([[0, 0, 5], [7]], 0)
    assert ids.tolist() == [[0, 0, 5], [0, 0, 7]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 1e-300])
def test_a_temperature_that_no_logits_can_be_divided_by_is_greedy(spring_llama, temperature: float) -> None:
    assert spring_llama.generate(PROMPTS[0], temperature=temperature) == spring_llama.generate(PROMPTS[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1, got max_new_tokens=0"),
        ({"temperature": -1}, "temperature must be 0"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"top_k": 0}, "top_k must be"),
        ({"num_beams": 0}, "num_beams must be"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ({"stop": ["a", ""]}, "stop must be a string, or a list of strings that are not empty"),
        ({"num_beams": 2, "temperature": 1}, "does not sample"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"max_new_tokens": None}, "max_new_tokens=None"),
        ({"max_new_tokens": 1.5}, "max_new_tokens=1.5"),
        ({"top_p": "0.9"}, "top_p='0.9'"),
        ({"stop": [3]}, r"stop=\(3,\)"),
        ({"seed": -1}, "seed=-1"),
        ({"tempertaure": 1}, r"unknown generation settings \['tempertaure'\]"),
    ],
)
def test_impossible_settings_are_named(spring_llama, settings, message) -> None:
    with pytest.raises(SettingsError, match=message):
        spring_llama.generate("Lima", **settings)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("length", [tiny_models.POSITIONS + 1, 10**9])
def test_an_answer_has_to_fit_the_window(family: str, length: int, random_tokens) -> None:
    model = spring(family, random_tokens)
    message = rf"max_new_tokens={length} is more than the {tiny_models.POSITIONS} positions of {model.name}; lower"
    for ask in (
        lambda: model.generate("Lima", max_new_tokens=length),
        lambda: next(model.stream("Lima", max_new_tokens=length)),
        lambda: RagDecoder(model).answer("Lima?", [Passage("Lima.", score=1.0)], max_new_tokens=length),
        lambda: model.with_changes(settings=GenerationSettings(max_new_tokens=length)).generate(["Lima"]),
    ):
        with pytest.raises(SettingsError, match=message):
            ask()


@pytest.mark.parametrize("beams", [2048, 300])
def test_beams_have_to_fit_the_memory_that_is_free(spring_llama, monkeypatch, beams: int) -> None:
    monkeypatch.setattr(room, "_free_bytes", lambda device: 3e6)
    passages = [Passage("Lima is the capital of Peru.", score=1.0)]
    for ask in (
        lambda: spring_llama.generate(PROMPTS[0], num_beams=beams, max_new_tokens=9),
        lambda: next(spring_llama.stream(PROMPTS[0], num_beams=beams, max_new_tokens=9)),
        lambda: RagDecoder(spring_llama).answer("Lima?", passages, num_beams=beams, max_new_tokens=9),
        lambda: RagDecoder(spring_llama, "rag-sequence").answer("Lima?", passages, num_beams=beams),
    ):
        with pytest.raises(SettingsError, match=rf"num_beams={beams} keeps .* positions .* 0\.0 GB are free; lower"):
            ask()
    assert spring_llama.generate(PROMPTS[0], num_beams=3, max_new_tokens=3)
    assert spring_llama.generate(PROMPTS[0], max_new_tokens=LENGTH)


def test_what_is_free_is_known_or_infinite(monkeypatch, tmp_path) -> None:
    cpu = torch.device("cpu")
    assert room._free_bytes(cpu) > 0
    monkeypatch.setattr(room, "_MEMORY_INFO", tmp_path / "none")
    assert room._free_bytes(cpu) == float("inf")
    monkeypatch.setattr(room, "_MEMORY_INFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2 kB\n")
    assert room._free_bytes(cpu) == 2048
