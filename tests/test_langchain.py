"""The LangChain language model: its own calls, callbacks, cache, settings and copies."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumpd
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_parts import Collector, TokenCollector
from pydantic import ValidationError

import spring_integrations.langchain
from spring_integrations import MARK, SpringError, SpringModel, SpringTokens
from spring_integrations.errors import BackboneError, PromptTooLongError, SettingsError, TokenCountError
from spring_integrations.langchain import SPRING_PROMPT, SpringHFLLM
from spring_integrations.runtime import worker

RAG = SPRING_PROMPT.format(context=f"Lima is the capital of Peru.{MARK}", question="What is the capital of Peru?")
PLAIN = "The capital of Peru is"


@pytest.fixture
def llm(spring_llama: SpringModel) -> SpringHFLLM:
    return SpringHFLLM(model=spring_llama, max_new_tokens=12)


@pytest.fixture
def batches(spring_llama: SpringModel, monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """The ids that reach the backbone's `generate`, one list of rows per call."""
    seen: list[list[list[int]]] = []
    original = spring_llama.backbone.generate

    def spy(**kwargs: Any) -> Any:
        seen.append(kwargs["input_ids"].tolist())
        return original(**kwargs)

    monkeypatch.setattr(spring_llama.backbone, "generate", spy)
    return seen


@pytest.fixture
def cache() -> Any:
    made = InMemoryCache()
    set_llm_cache(made)
    yield made
    set_llm_cache(None)


async def _collect(stream: Any) -> list[str]:
    return [piece async for piece in stream]


def _script(source: str) -> str:
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_exports_are_what_all_says() -> None:
    for name in spring_integrations.langchain.__all__:
        assert getattr(spring_integrations.langchain, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = spring_integrations.langchain.no_such_name


def test_without_langchain_the_error_names_the_extra() -> None:
    out = _script("import sys; sys.modules['langchain_core'] = None; import spring_integrations.langchain")
    assert "MissingExtraError" in out and "spring-integrations[langchain]" in out


def test_retriever_and_served_models_need_no_torch() -> None:
    names = "SpringRetriever, SpringServedLLM, MiniLMEmbeddings"
    source = f"import sys; from spring_integrations.langchain import {names}; print('torch' in sys.modules)"
    assert _script(source).strip() == "False"


def test_positional_keyword_and_loaded_model_agree(llama_folder: Path, tokens_file: Path) -> None:
    positional = SpringHFLLM(str(llama_folder), str(tokens_file))
    keyword = SpringHFLLM(model_id=str(llama_folder), tokens_path=tokens_file, k=8)
    shared = SpringHFLLM(model=positional.model)
    assert positional.k == 8
    assert shared.model.backbone is positional.model.backbone
    assert positional.invoke(RAG) == keyword.invoke(RAG) == shared.invoke(RAG)


def test_a_given_model_keeps_its_settings_and_passes_them_on(llama: Any, random_tokens: SpringTokens) -> None:
    model = SpringModel(*llama, random_tokens, k=3, on_missing_boundary="error")
    llm = SpringHFLLM(model=model, k=5, max_new_tokens=4)
    assert (llm.k, llm.on_missing_boundary) == (5, "error")
    assert SpringHFLLM(model=model).k == 3
    assert (model.k, model.settings.max_new_tokens) == (3, 64)
    with pytest.raises(SpringError, match="no boundary"):
        llm.invoke(PLAIN)


def test_own_boundary_rule(spring_llama: SpringModel) -> None:
    llm = SpringHFLLM(model=spring_llama, boundary_rule="Facts: {context}\nAsk: {question}", max_new_tokens=2)
    info = llm.generate(["Facts: Lima is in Peru.\nAsk: where is Lima?"]).generations[0][0].generation_info
    assert (info["boundary"], info["k"]) == ("template", 8)


def test_how_to_load_reaches_transformers(llama_folder: Path, tokens_file: Path) -> None:
    how = {"dtype": "bfloat16", "device_map": "cpu", "attn_implementation": "eager", "revision": "main"}
    llm = SpringHFLLM(str(llama_folder), tokens_file, max_new_tokens=2, **how)
    backbone = llm.model.backbone
    assert (str(backbone.dtype), backbone.config._attn_implementation) == ("torch.bfloat16", "eager")
    assert llm.invoke(RAG)
    with pytest.raises(BackboneError, match="device_map"):
        SpringHFLLM(str(llama_folder), device_map="everywhere")
    with pytest.raises(BackboneError, match="quantization type, got magic"):
        SpringHFLLM(str(llama_folder), quantization_config={"quant_method": "magic"})


def test_impossible_settings_are_refused(spring_llama: SpringModel, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="temprature"):
        SpringHFLLM(model=spring_llama, temprature=1.0)
    with pytest.raises(TokenCountError, match="n=8"):
        SpringHFLLM(model=spring_llama, k=9)
    with pytest.raises(SettingsError, match="temperature"):
        SpringHFLLM(model=spring_llama, temperature=-1)
    for wrong in ({"k": True}, {"k": "5"}, {"temperature": "0.5"}, {"seed": 1.5}):
        with pytest.raises((TokenCountError, SettingsError), match=f"{next(iter(wrong))}="):
            SpringHFLLM(model=spring_llama, **wrong)
    with pytest.raises(SettingsError, match="no model"):
        SpringHFLLM()
    with pytest.raises(SettingsError, match="loaded already, so dtype"):
        SpringHFLLM(model=spring_llama, dtype="float16")
    with pytest.raises(BackboneError, match="nowhere"):
        SpringHFLLM(str(tmp_path / "nowhere"))
    with pytest.raises(ValidationError, match="frozen"):
        SpringHFLLM(model=spring_llama).on_too_long = "error"


def test_settings_can_be_changed_on_the_object(llm: SpringHFLLM) -> None:
    before = llm.generate([RAG]).generations[0][0].generation_info
    llm.k, llm.max_new_tokens = 2, 3
    after = llm.generate([RAG]).generations[0][0].generation_info
    assert (before["k"], after["k"]) == (8, 2)
    assert after["completion_tokens"] <= 3


def test_a_batch_is_one_call_of_the_backbone(llm: SpringHFLLM, batches: list[list[list[int]]]) -> None:
    prompts = [RAG, PLAIN, RAG.replace("Peru", "Chile")]
    texts = llm.batch(prompts)
    assert [len(rows) for rows in batches] == [3]
    assert texts == [llm.invoke(p) for p in prompts]
    assert asyncio.run(llm.abatch(prompts)) == texts
    assert [len(rows) for rows in batches] == [3, 1, 1, 1, 3]


@pytest.mark.parametrize("config", [None, {"max_concurrency": 2}])
def test_one_impossible_prompt_of_a_batch_fails_alone(llm: SpringHFLLM, config: Any) -> None:
    prompts = [RAG, "word " * 2_000, PLAIN]
    with pytest.raises(PromptTooLongError):
        llm.batch(prompts, config)
    chain = PromptTemplate.from_template("{text}") | llm
    inputs = [{"text": prompt} for prompt in prompts]
    for runnable, given in ((llm, prompts), (chain, inputs), (llm.with_fallbacks([llm]), prompts)):
        wanted = [runnable.invoke(given[0]), runnable.invoke(given[2])]
        for found in (
            runnable.batch(given, config, return_exceptions=True),
            asyncio.run(runnable.abatch(given, config, return_exceptions=True)),
        ):
            assert isinstance(found[1], PromptTooLongError)
            assert found[::2] == wanted


def test_virtual_ids_stand_before_the_question(llm: SpringHFLLM, batches: list[list[list[int]]]) -> None:
    llm.invoke(RAG, k=3)
    words, rows = llm.model.tokenizer, batches[0][0]
    rows_of_backbone = llm.model.backbone.config.vocab_size
    at = rows.index(rows_of_backbone)
    assert rows[at : at + 3] == [rows_of_backbone, rows_of_backbone + 1, rows_of_backbone + 2]
    assert words.decode(rows[:at], skip_special_tokens=True) == "Lima is the capital of Peru.\n\n"
    assert words.decode(rows[at + 3 :]) == "Question: What is the capital of Peru?\nAnswer:"


def test_generation_info_and_usage(llm: SpringHFLLM) -> None:
    result = llm.generate([RAG, PLAIN])
    (boosted,), (plain,) = result.generations
    assert boosted.generation_info == llm.model.generate(RAG, max_new_tokens=12)[0].info()
    assert (boosted.generation_info["k"], boosted.generation_info["boundary"]) == (8, "question")
    assert (plain.generation_info["k"], plain.generation_info["boundary"]) == (0, None)
    usage = result.llm_output["token_usage"]
    assert usage["prompt_tokens"] == sum(g.generation_info["prompt_tokens"] for g in (boosted, plain))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_plain_prompt_gets_what_the_plain_backbone_gives(llm: SpringHFLLM) -> None:
    model, words = tiny_models.build("llama")
    ids = words(PLAIN, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, ids.input_ids.shape[1] :]
    assert llm.invoke(PLAIN) == words.decode(out, skip_special_tokens=True)
    assert llm.invoke(RAG, k=0) == SpringHFLLM(model=SpringModel(model, words), max_new_tokens=12).invoke(RAG)


@pytest.mark.parametrize("prompt", [RAG, PLAIN])
def test_streams_add_up_to_the_answer(llm: SpringHFLLM, prompt: str) -> None:
    text = llm.invoke(prompt)
    assert len(text) > 4
    pieces = list(llm.stream(prompt))
    assert len(pieces) > 3
    assert "".join(pieces) == text
    assert "".join(asyncio.run(_collect(llm.astream(prompt)))) == text
    assert asyncio.run(llm.ainvoke(prompt)) == text


def test_stream_reports_tokens_and_info(llm: SpringHFLLM) -> None:
    for consume in (list, lambda stream: asyncio.run(_collect(stream))):
        handler = TokenCollector()
        stream = (llm.stream if consume is list else llm.astream)(RAG, config={"callbacks": [handler]})
        assert consume(stream) == handler.tokens
        assert handler.boosts == [("question", 8)]


def test_a_listening_handler_makes_invoke_stream_the_same_text(llm: SpringHFLLM) -> None:
    for call in (llm.invoke, lambda *a, **kw: asyncio.run(llm.ainvoke(*a, **kw))):
        handler = TokenCollector()
        text = call(RAG, config={"callbacks": [handler]})
        assert len(handler.tokens) > 3
        assert "".join(handler.tokens) == text == llm.invoke(RAG)
        assert handler.boosts == [("question", 8)]


def test_tokens_come_while_the_model_runs_and_closing_stops_it(llm: SpringHFLLM) -> None:
    steps = []
    hook = llm.model.backbone.register_forward_hook(lambda *_: steps.append(1))
    stream = llm.stream(RAG, max_new_tokens=150)
    next(stream)
    stream.close()
    assert len(steps) < 75
    steps.clear()

    async def first() -> None:
        pieces = llm.astream(RAG, max_new_tokens=150)
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(first())
    hook.remove()
    assert 0 < len(steps) < 75


def test_an_error_of_the_model_reaches_every_caller(llm: SpringHFLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**kwargs: Any) -> Any:
        msg = "out of memory"
        raise RuntimeError(msg)

    monkeypatch.setattr(llm.model.backbone, "generate", fail)
    for call in (
        lambda: llm.invoke(RAG),
        lambda: list(llm.stream(RAG)),
        lambda: asyncio.run(llm.ainvoke(RAG)),
        lambda: asyncio.run(_collect(llm.astream(RAG))),
    ):
        with pytest.raises(RuntimeError, match="out of memory"):
            call()


def test_an_empty_answer_streams_one_empty_piece(llm: SpringHFLLM) -> None:
    whole = llm.invoke(RAG)
    assert llm.invoke(RAG, stop=[whole[:2]]) == ""
    assert list(llm.stream(RAG, stop=[whole[:2]])) == [""]


def test_stop_is_honoured_everywhere(llm: SpringHFLLM) -> None:
    whole = llm.invoke(RAG)
    stop, kept = whole[4:6], whole[: whole.index(whole[4:6])]
    fielded = SpringHFLLM(model=llm.model, max_new_tokens=12, stop=stop)
    assert llm.invoke(RAG, stop=[stop]) == kept
    assert llm.bind(stop=[stop]).invoke(RAG) == kept
    assert llm.batch([RAG, RAG], stop=[stop]) == [kept, kept]
    assert "".join(llm.stream(RAG, stop=[stop])) == kept
    assert asyncio.run(llm.ainvoke(RAG, stop=[stop])) == kept
    assert "".join(asyncio.run(_collect(llm.astream(RAG, stop=[stop])))) == kept
    assert fielded.invoke(RAG) == kept
    assert fielded.model_copy(update={"stop": stop}).invoke(RAG) == kept
    fielded.stop = stop
    assert fielded.invoke(RAG) == kept
    assert fielded.invoke(RAG, stop=[whole[2:4]]) == whole[: min(whole.index(s) for s in (stop, whole[2:4]))]
    info = llm.generate([RAG], stop=[stop]).generations[0][0].generation_info
    assert info["finish_reason"] == "stop"


def test_k_and_settings_per_call(llm: SpringHFLLM) -> None:
    handler = Collector()
    bound = llm.bind(k=2, max_new_tokens=3).with_config(callbacks=[handler])
    assert bound.invoke(RAG) == SpringHFLLM(model=llm.model, k=2, max_new_tokens=3).invoke(RAG)
    list(bound.stream(RAG))
    bound.batch([RAG, RAG])
    asyncio.run(bound.ainvoke(RAG))
    assert handler.boosts == [("question", 2)] * 5
    assert (llm.k, llm.max_new_tokens) == (8, 12)
    with pytest.raises(TokenCountError, match="n=8"):
        llm.invoke(RAG, k=9)


def test_max_tokens_is_a_name_of_max_new_tokens(llm: SpringHFLLM) -> None:
    short = llm.invoke(RAG, max_new_tokens=3)
    assert SpringHFLLM(model=llm.model, max_tokens=3).invoke(RAG) == llm.bind(max_tokens=3).invoke(RAG) == short
    assert "".join(llm.stream(RAG, max_tokens=3)) == short != llm.invoke(RAG)
    with pytest.raises(SettingsError, match="max_tokens=3 and max_new_tokens=4"):
        SpringHFLLM(model=llm.model, max_tokens=3, max_new_tokens=4)


def test_unknown_call_arguments_are_refused(llm: SpringHFLLM) -> None:
    for call in (
        lambda: llm.invoke(RAG, min_p=3),
        lambda: llm.bind(min_p=3).batch([RAG]),
        lambda: list(llm.stream(RAG, min_p=3)),
        lambda: asyncio.run(llm.ainvoke(RAG, min_p=3)),
    ):
        with pytest.raises(SettingsError, match="cannot set min_p; it can set k, max_new_tokens"):
            call()


def test_the_cache_tells_settings_apart(llm: SpringHFLLM, cache: InMemoryCache, batches: list[Any]) -> None:
    assert llm.invoke(RAG) == llm.invoke(RAG)
    assert len(batches) == 1
    variants = [
        lambda: llm.invoke(RAG, k=2),
        lambda: llm.bind(k=0).invoke(RAG),
        lambda: SpringHFLLM(model=llm.model, k=3, max_new_tokens=12).invoke(RAG),
        lambda: SpringHFLLM(model=llm.model, max_new_tokens=12, stop=["x"]).invoke(RAG),
        lambda: asyncio.run(llm.ainvoke(RAG, max_new_tokens=2)),
        lambda: SpringHFLLM(
            model=SpringModel(llm.model.frozen, tokens=SpringTokens(llm.model.tokens.embeddings * 2)), max_new_tokens=12
        ).invoke(RAG),
    ]
    for count, variant in enumerate(variants, 2):
        assert variant() == variant()
        assert len(batches) == count


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("k", 3), ("max_new_tokens", 5), ("temperature", 0.5), ("top_k", 4), ("top_p", 0.5), ("num_beams", 2),
        ("repetition_penalty", 1.5), ("stop", ["x"]), ("seed", 1), ("boundary_rule", "Ask:"),
        ("on_missing_boundary", "warn"), ("on_too_long", "error"),
    ],
)  # fmt: skip
def test_every_setting_is_in_the_key_of_the_cache(llm: SpringHFLLM, name: str, value: Any) -> None:
    given = {"max_new_tokens": 12} | {name: value}
    assert SpringHFLLM(model=llm.model, **given).asdict() != llm.asdict()


def test_identifying_parameters_are_plain_values(llm: SpringHFLLM, tmp_path: Path) -> None:
    params = dict(llm._identifying_params)
    assert json.loads(json.dumps(params)) == params
    assert params["tokens"] == llm.model.tokens.digest
    assert (params["k"], params["dtype"]) == (8, "torch.float32")
    llm.save(tmp_path / "llm.yaml")


def test_tracing_parameters(llm: SpringHFLLM) -> None:
    params = llm._get_ls_params(stop=["x"], temperature=0.5)
    assert params["ls_provider"] == "spring"
    assert params["ls_model_name"] == llm.model.name
    assert (params["ls_temperature"], params["ls_max_tokens"], params["ls_stop"]) == (0.5, 12, ["x"])
    assert {"langchain-core", "spring-integrations"} <= set(llm.metadata["lc_versions"])


def test_tokens_are_counted_by_the_backbones_tokenizer(llm: SpringHFLLM) -> None:
    text = "naïve café 🙂"
    assert llm.model.tokenizer.decode(llm.get_token_ids(text)) == text
    assert llm.get_num_tokens(text) == llm.get_num_tokens(text + MARK) == llm.model.count_tokens(text)
    counted = SpringHFLLM(model=llm.model, custom_get_token_ids=lambda _: [1, 2])
    assert counted.get_num_tokens(text) == 2


def test_pickle_holds_settings_and_loads_the_weights_again(llama_folder: Path, tokens_file: Path) -> None:
    llm = SpringHFLLM(str(llama_folder), tokens_file, k=3, max_new_tokens=5)
    data = pickle.dumps(llm)
    assert len(data) < 5_000
    again = pickle.loads(data)
    assert again.model.backbone is not llm.model.backbone
    assert again.invoke(RAG) == llm.invoke(RAG)
    assert dict(again._identifying_params) == dict(llm._identifying_params)


def test_a_given_model_cannot_be_pickled_but_copied(llm: SpringHFLLM) -> None:
    with pytest.raises(SettingsError, match="make it from an id"):
        pickle.dumps(llm)
    twin = copy.deepcopy(llm)
    twin.k = 1
    assert twin.model.backbone is llm.model.backbone
    assert (llm.k, twin.generate([RAG]).generations[0][0].generation_info["k"]) == (8, 1)


def test_dumpd_holds_no_weights(llm: SpringHFLLM) -> None:
    dumped = json.dumps(dumpd(llm))
    assert "SpringHFLLM" in dumped
    assert len(dumped) < 2_000


def test_configurable_fields_share_the_weights(llama_folder: Path, tokens_file: Path) -> None:
    llm = SpringHFLLM(str(llama_folder), tokens_file, max_new_tokens=5)
    configurable = llm.configurable_fields(k=ConfigurableField(id="k"))
    prepared, _ = configurable.prepare({"configurable": {"k": 2}})
    assert (prepared.k, prepared.model.backbone) == (2, llm.model.backbone)
    assert configurable.with_config(configurable={"k": 2}).invoke(RAG) == llm.invoke(RAG, k=2)


def test_beam_search_streams_in_one_piece(llm: SpringHFLLM) -> None:
    beams = SpringHFLLM(model=llm.model, num_beams=2, max_new_tokens=6)
    assert list(beams.stream(RAG)) == [beams.invoke(RAG), ""], "and an empty one that says what was done"


def test_sampling_repeats_with_a_seed(llm: SpringHFLLM) -> None:
    sampled = SpringHFLLM(model=llm.model, temperature=1.0, seed=5, max_new_tokens=12)
    assert sampled.invoke(RAG) == sampled.invoke(RAG) == "".join(sampled.stream(RAG))
    assert sampled.invoke(RAG) != sampled.invoke(RAG, seed=6)


def test_async_calls_leave_the_event_loop_and_its_executor_free(
    llm: SpringHFLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, go, alone = llm.model.backbone.generate, threading.Event(), threading.Lock()
    threads = set()

    def wait(**kwargs: Any) -> Any:
        threads.add(threading.current_thread().name)
        assert alone.acquire(blocking=False), "the model works for two at once"
        try:
            assert go.wait(timeout=20)
            return original(**kwargs)
        finally:
            alone.release()

    monkeypatch.setattr(llm.model.backbone, "generate", wait)

    async def main() -> list[str]:
        calls = [asyncio.create_task(llm.ainvoke(RAG)) for _ in range(40)]
        await asyncio.sleep(0.05)
        assert not any(c.done() for c in calls)
        assert await asyncio.to_thread(lambda: "free") == "free"
        go.set()
        return await asyncio.gather(*calls)

    assert len(set(asyncio.run(main()))) == 1
    assert all(name.startswith("spring") for name in threads)
    assert len(threads) <= worker.MAX_WAITING
