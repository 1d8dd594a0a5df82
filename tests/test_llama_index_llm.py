"""`spring_integrations.llama_index.SpringHFLLM` on its own: what each call gives, and how."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine.condense_plus_context import DEFAULT_CONDENSE_PROMPT_TEMPLATE as CONDENSE_PLUS
from llama_index.core.chat_engine.condense_question import DEFAULT_TEMPLATE as CONDENSE
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index_kit import (
    PLAIN,
    RAG,
    WIDE,
    RecordingModel,
    kept_settings,
    plain_backbone,
    recorded_events,
    recording_model,
    user,
)
from pydantic import ValidationError

from spring_integrations import MARK, SpringTokens
from spring_integrations.errors import BoundaryError, SettingsError, TokenCountError
from spring_integrations.llama_index import SpringCallError, SpringHFLLM, SpringNodePostprocessor
from spring_integrations.runtime.settings import GenerationSettings


@pytest.fixture(autouse=True)
def _global_settings() -> Iterator[None]:
    with kept_settings():
        yield


@pytest.fixture
def spring(random_tokens: SpringTokens) -> RecordingModel:
    return recording_model(random_tokens)


@pytest.fixture
def llm(spring: RecordingModel) -> SpringHFLLM:
    """As a base model: text in, text out."""
    return SpringHFLLM(model=spring, is_chat_model=False, max_new_tokens=8)


@pytest.fixture
def chat(spring: RecordingModel) -> SpringHFLLM:
    return SpringHFLLM(model=spring, max_new_tokens=8)


# Making one


def test_positional_and_keyword_forms(llama_folder: Path, tokens_file: Path) -> None:
    by_position = SpringHFLLM(str(llama_folder), tokens_file, k=3, max_new_tokens=4, is_chat_model=False)
    by_name = SpringHFLLM(model_id=str(llama_folder), tokens_path=str(tokens_file), k=3, is_chat_model=False)
    answer = by_position.complete(RAG)
    assert answer.raw["k"] == 3
    assert by_name.complete(RAG, max_new_tokens=4).text == answer.text
    assert by_name.model.tokens is not None
    assert by_position.metadata.model_name == str(llama_folder)


def test_dtype_may_be_a_torch_dtype(llama_folder: Path) -> None:
    assert SpringHFLLM(str(llama_folder), dtype=torch.bfloat16).model.backbone.dtype == torch.bfloat16


def test_loaded_model_is_used_as_it_is(spring: RecordingModel) -> None:
    assert SpringHFLLM(model=spring).model is spring


def test_rules_of_one_llm_do_not_reach_the_shared_model(spring: RecordingModel) -> None:
    strict = SpringHFLLM(model=spring, on_missing_boundary="error", is_chat_model=False, k=2)
    with pytest.raises(SpringCallError, match="no boundary") as raised:
        strict.complete(PLAIN)
    assert isinstance(raised.value.__cause__, BoundaryError)
    assert not isinstance(raised.value, ValueError)
    ruled = SpringHFLLM(model=spring, boundary_rule="{context}>>{question}", is_chat_model=False, max_new_tokens=2)
    assert ruled.complete("some context>>a question").raw["boundary"] == "template"
    assert strict.complete(RAG, max_new_tokens=2).raw["k"] == 2
    assert (spring.on_missing_boundary, spring.boundary_rule, spring.k) == ("once", None, 8)
    assert strict.model.backbone is spring.backbone


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"temprature": 1.0}, ValidationError, "temprature"),
        ({"k": 9}, TokenCountError, "n=8"),
        ({"k": True}, TokenCountError, "k=True"),
        ({"k": "5"}, TokenCountError, "k='5'"),
        ({"temperature": "0.5"}, SettingsError, "temperature='0.5'"),
        ({"top_p": 2.0}, SettingsError, "top_p"),
        ({"on_missing_boundary": "shout"}, ValidationError, "shout"),
        ({"model_id": "some/model"}, SettingsError, "model_id"),
        ({"device_map": "auto"}, SettingsError, "device_map"),
    ],
)
def test_impossible_settings_are_refused(
    spring: RecordingModel, wrong: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        SpringHFLLM(model=spring, **wrong)


def test_no_model_says_how_to_give_one() -> None:
    with pytest.raises(SettingsError, match="model="):
        SpringHFLLM()


def test_pickling_keeps_settings_and_not_weights(llama_folder: Path, tokens_file: Path) -> None:
    llm = SpringHFLLM(str(llama_folder), tokens_file, k=5, stop=["\n"], max_new_tokens=4, system_prompt="Be brief.")
    data = pickle.dumps(llm)
    assert len(data) < 10_000
    again = pickle.loads(data)
    assert again.to_dict() == llm.to_dict()
    assert again.complete(RAG).text == llm.complete(RAG).text
    assert json.loads(llm.to_json())["k"] == 5


def test_a_given_model_is_not_pickled_but_shared_by_copies(chat: SpringHFLLM) -> None:
    with pytest.raises(SettingsError, match="pickled"):
        pickle.dumps(chat)
    assert copy.deepcopy(chat).model is chat.model


def test_missing_llama_index_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['llama_index.core'] = None\n"
        "from spring_integrations.errors import MissingExtraError\n"
        "try:\n    import spring_integrations.llama_index\n"
        "except MissingExtraError as error:\n    assert 'spring-integrations[llama-index]' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# Completion


def test_prompt_without_context_equals_the_plain_backbone(spring: RecordingModel) -> None:
    llm = SpringHFLLM(model=spring, is_chat_model=False, max_new_tokens=8)

    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(st.text(st.characters(exclude_characters="\u2063", codec="utf-8"), min_size=1, max_size=40))
    def same(text: str) -> None:
        if text.strip():
            answer = llm.complete(text)
            assert (answer.text, answer.raw["k"]) == (plain_backbone(text), 0)

    same()


def test_k_and_settings_of_a_call_win(llm: SpringHFLLM) -> None:
    full = llm.complete(RAG)
    assert (full.raw["k"], full.raw["boundary"]) == (8, "official")
    assert llm.complete(RAG, k=0).text == plain_backbone(RAG.replace(MARK, "")) != full.text
    assert llm.complete(RAG, k=3).raw["k"] == 3
    assert llm.complete(RAG, max_new_tokens=2).raw["completion_tokens"] == 2
    assert llm.complete(RAG, stop=None, k=None).text == full.text
    llm.k = 1
    assert llm.complete(RAG).raw["k"] == 1


def test_stop_strings(llm: SpringHFLLM) -> None:
    whole = llm.complete(PLAIN).text
    stop = whole[3]
    for given_stop in (stop, [stop]):
        stopped = llm.complete(PLAIN, stop=given_stop)
        assert stopped.text == whole[: whole.index(stop)]
        assert stopped.raw["finish_reason"] == "stop"
    assert "".join(r.delta or "" for r in llm.stream_complete(PLAIN, stop=[stop])) == whole[: whole.index(stop)]


@pytest.mark.parametrize("method", ["complete", "stream_complete", "chat", "stream_chat"])
def test_unknown_call_arguments_are_refused(llm: SpringHFLLM, method: str) -> None:
    first = [user(PLAIN)] if "chat" in method else PLAIN
    with pytest.raises(SpringCallError, match="min_p"):
        list(getattr(llm, method)(first, min_p=3))


def test_every_generation_setting_is_a_field() -> None:
    assert set(GenerationSettings.__dataclass_fields__) <= set(SpringHFLLM.model_fields)


def test_seeded_sampling_repeats(llm: SpringHFLLM) -> None:
    settings_ = {"temperature": 1.5, "top_k": 40, "seed": 3}
    assert llm.complete(PLAIN, **settings_).text == llm.complete(PLAIN, **settings_).text != llm.complete(PLAIN).text


def test_what_was_done_is_plain_data(llm: SpringHFLLM) -> None:
    answer = llm.complete(RAG)
    counts = {name: answer.raw[name] for name in ("prompt_tokens", "completion_tokens")}
    assert answer.raw == {**answer.additional_kwargs, "usage": counts}
    assert json.loads(json.dumps(answer.raw)) == answer.raw
    assert set(answer.raw) >= {"k", "boundary", "prompt_tokens", "completion_tokens", "finish_reason"}


def test_completion_to_prompt_holds_for_unformatted_prompts_only(spring: RecordingModel) -> None:
    llm = SpringHFLLM(model=spring, completion_to_prompt=lambda p: f"<<{p}>>", max_new_tokens=2)
    llm.complete("a")
    llm.complete("b", formatted=True)
    list(llm.stream_complete("c"))
    list(llm.stream_complete("d", formatted=True))
    asyncio.run(llm.acomplete("e"))
    asyncio.run(llm.acomplete("f", formatted=True))
    assert [prompt for prompt, _ in spring.calls] == ["<<a>>", "b", "<<c>>", "d", "<<e>>", "f"]


def test_stream_is_cumulative_and_equals_complete(llm: SpringHFLLM) -> None:
    parts = list(llm.stream_complete(RAG))
    whole = llm.complete(RAG)
    assert len(parts) > 2
    for before, after in itertools.pairwise(parts):
        assert after.text == before.text + (after.delta or "")
    assert (parts[-1].text, parts[-1].raw, parts[-1].delta) == (whole.text, whole.raw, "")


def test_beam_search_streams_in_one_piece(llm: SpringHFLLM) -> None:
    parts = list(llm.stream_complete(RAG, num_beams=2))
    assert [p.delta for p in parts] == [llm.complete(RAG, num_beams=2).text, ""]


def test_stopping_a_stream_stops_the_model(llm: SpringHFLLM) -> None:
    stream = llm.stream_complete(RAG, max_new_tokens=2000)
    next(stream)
    stream.close()
    assert not [t for t in threading.enumerate() if t.name == "spring-stream"]


# Metadata


def test_metadata_leave_room_for_tokens_and_template(chat: SpringHFLLM, llm: SpringHFLLM) -> None:
    assert (llm.metadata.context_window, llm.metadata.num_output) == (WIDE - 8, 8)
    llm.k = 3
    assert llm.metadata.context_window == WIDE - 3
    assert chat.metadata.is_chat_model
    assert not llm.metadata.is_chat_model
    scaffold = chat.model.count_tokens("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n")
    assert WIDE - 8 - scaffold - 2 <= chat.metadata.context_window <= WIDE - 8 - scaffold


@pytest.mark.parametrize("window", [512, 1024])
@pytest.mark.parametrize("max_new_tokens", [16, 200])
def test_a_small_window_is_reported_as_it_is(random_tokens: SpringTokens, window: int, max_new_tokens: int) -> None:
    model = recording_model(random_tokens, window=window, template=False)
    small = SpringHFLLM(model=model, max_new_tokens=max_new_tokens)
    assert (small.metadata.context_window, small.metadata.num_output) == (window - 8, max_new_tokens)
    # LlamaIndex's own helper would reserve 500 for the answer that is refined.
    splitter = Settings.prompt_helper.get_text_splitter_given_prompt(
        PromptTemplate("{context_str}"), padding=500, llm=small
    )
    assert splitter.chunk_size == window - 8 - max_new_tokens - max(max_new_tokens + 5, (window - 8) // 4)


def test_the_helper_for_small_windows_packs_for_other_llms_as_before_and_never_replaces_one(
    random_tokens: SpringTokens,
) -> None:
    SpringHFLLM(model=recording_model(random_tokens, window=512, template=False))
    for other in (MockLLM(), MockLLM(max_tokens=100)):
        by_default = PromptHelper.from_llm_metadata(other.metadata)
        sizes = [
            h.get_text_splitter_given_prompt(PromptTemplate("{context_str}"), 2, llm=other).chunk_size
            for h in (Settings.prompt_helper, by_default)
        ]
        assert sizes[0] == sizes[1]
    Settings.prompt_helper = own = PromptHelper(512, 16)
    SpringHFLLM(model=recording_model(random_tokens, window=512, template=False))
    assert Settings.prompt_helper is own
    Settings._prompt_helper = None
    SpringHFLLM(model=recording_model(random_tokens, window=WIDE, template=False))
    assert Settings._prompt_helper is None


def _stock_history(turns: int) -> str:
    return "\n".join(f"user: number {i}\nassistant: fine\nuser: no, {i}" for i in range(turns))


@pytest.mark.parametrize("template", [CONDENSE_PLUS, CONDENSE])
@pytest.mark.parametrize("chat", [False, True])
def test_a_question_of_a_long_chat_is_condensed_without_its_oldest_exchanges(
    random_tokens: SpringTokens, template: str, chat: bool
) -> None:
    llm = SpringHFLLM(model=recording_model(random_tokens, window=700, template=chat), max_new_tokens=8)
    for turns in (0, 2, 200):
        asked = template.format(chat_history=_stock_history(turns), question="and then?\nFollow Up Input: or not?")
        done = llm.complete(asked)
        (seen, _), *_ = llm.model.calls[::-1]
        assert "and then?" in seen
        assert (asked in seen) is (turns < 200)
        assert (f"no, {turns - 1}\n" in seen) is (turns > 0)
        assert done.raw["prompt_tokens"] + 8 <= 700
    strict = SpringHFLLM(model=llm.model, on_too_long="error", max_new_tokens=8)
    for unknown in (asked, f"Given {asked}" + " and so on", asked.replace("Given", "Take")):
        with pytest.raises(SpringCallError, match="positions of"):
            (strict if unknown is asked else llm).complete(unknown)


def test_token_counts_are_the_backbones(llm: SpringHFLLM) -> None:
    plain = RAG.replace(MARK, "")
    assert len(llm.tokenizer_fn(plain)) == llm.model.count_tokens(plain)
    assert len(llm.tokenizer_fn(RAG)) > llm.model.count_tokens(RAG)
    chunks = llm.prompt_helper.repack(PromptTemplate("{context_str}"), ["Lima. " * 3000])
    assert len(chunks) > 1
    assert all(llm.model.count_tokens(chunk) <= WIDE - 8 - 8 for chunk in chunks)


def test_special_tokens_fit_the_postprocessor(llm: SpringHFLLM) -> None:
    assert "<|im_start|>" in llm.special_tokens
    assert SpringNodePostprocessor(special_tokens=llm.special_tokens).special_tokens == llm.special_tokens


async def _read(stream: Any) -> list[Any]:
    return [part async for part in await stream]


def test_instrumentation_sees_every_call(llm: SpringHFLLM) -> None:
    with recorded_events() as seen:
        llm.complete(RAG)
        list(llm.stream_complete(RAG))
        asyncio.run(llm.acomplete(RAG))
        asyncio.run(_read(llm.astream_complete(RAG)))
        llm.chat([user(RAG)])
        list(llm.stream_chat([user(RAG)]))
        asyncio.run(llm.achat([user(RAG)]))
        asyncio.run(_read(llm.astream_chat([user(RAG)])))
    ends = [e for e in seen if type(e).__name__ in ("LLMCompletionEndEvent", "LLMChatEndEvent")]
    assert [type(e).__name__ for e in ends] == ["LLMCompletionEndEvent"] * 4 + ["LLMChatEndEvent"] * 4
    assert [(e.response.raw["k"], e.response.raw["boundary"]) for e in ends] == [
        (8, boundary) for boundary in ["official"] * 4 + ["question"] * 4
    ]
    assert sum(type(e).__name__ == "LLMChatInProgressEvent" for e in seen) > 4, "of two streams"
    start = next(e for e in seen if type(e).__name__ == "LLMCompletionStartEvent")
    assert start.model_dict["max_new_tokens"] == 8
    json.dumps(start.model_dump(mode="json"))


def test_token_counting_handler_takes_our_counts(spring: RecordingModel) -> None:
    handler = TokenCountingHandler(tokenizer=lambda text: [0] * len(text))
    llm = SpringHFLLM(model=spring, is_chat_model=False, callback_manager=CallbackManager([handler]))
    info = llm.complete(RAG, max_new_tokens=4).raw
    *_, last = llm.stream_chat([user(RAG)], max_new_tokens=3)
    assert handler.prompt_llm_token_count == info["prompt_tokens"] + last.raw["prompt_tokens"]
    assert handler.completion_llm_token_count == 7
