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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.prompts import PromptTemplate
from llama_index_kit import WIDE, RecordingModel, recording_model
from pydantic import ValidationError

from spring_integrations import MARK, SpringModel, SpringTokens
from spring_integrations.errors import BoundaryError, PromptError, SettingsError, TokenCountError
from spring_integrations.generation import GenerationSettings
from spring_integrations.llama_index import SpringHFLLM, SpringNodePostprocessor

RAG = f"[1] Lima is the capital of Peru.{MARK}\n\nQuestion: what is the capital of Peru?\nAnswer:"
PLAIN = "What is the capital of Peru?"
GEMMA_LIKE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"
)


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


def user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


def plain_backbone(text: str, *, max_new_tokens: int = 8) -> str:
    """What transformers itself answers, without any code of ours."""
    model, tokenizer = tiny_models.build("llama")
    inputs = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0)
    return str(tokenizer.decode(out[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))


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
    with pytest.raises(BoundaryError):
        strict.complete(PLAIN)
    ruled = SpringHFLLM(model=spring, boundary_rule="{context}>>{question}", is_chat_model=False, max_new_tokens=2)
    assert ruled.complete("some context>>a question").raw["boundary"] == "template"
    assert strict.complete(RAG, max_new_tokens=2).raw["k"] == 2
    assert (spring.on_missing_boundary, spring.boundary_rule, spring.k) == ("ignore", None, 8)
    assert strict.model.backbone is spring.backbone


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"temprature": 1.0}, ValidationError, "temprature"),
        ({"k": 9}, TokenCountError, "n=8"),
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
    with pytest.raises(SettingsError, match="max_tokens"):
        list(getattr(llm, method)(first, max_tokens=3))


def test_every_generation_setting_is_a_field() -> None:
    assert set(GenerationSettings.__dataclass_fields__) <= set(SpringHFLLM.model_fields)


def test_seeded_sampling_repeats(llm: SpringHFLLM) -> None:
    settings_ = {"temperature": 1.5, "top_k": 40, "seed": 3}
    assert llm.complete(PLAIN, **settings_).text == llm.complete(PLAIN, **settings_).text != llm.complete(PLAIN).text


def test_what_was_done_is_plain_data(llm: SpringHFLLM) -> None:
    answer = llm.complete(RAG)
    assert answer.raw == answer.additional_kwargs
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


# Chat


def test_chat_prompt_is_the_template_with_the_mark_in_the_last_user_turn(
    chat: SpringHFLLM, spring: RecordingModel
) -> None:
    messages = [
        ChatMessage(role=MessageRole.SYSTEM, content=f"Context information is below.\nLima.{MARK}"),
        user("an earlier question"),
        ChatMessage(role=MessageRole.CHATBOT, content="an answer"),
        user("which city?"),
    ]
    answer = chat.chat(messages)
    turns = [("system", "Context information is below.\nLima."), ("user", "an earlier question")]
    turns += [("assistant", "an answer"), ("user", f"{MARK}which city?")]
    conversation = [{"role": role, "content": content} for role, content in turns]
    wanted = spring.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert spring.calls[-1][0] == wanted
    assert answer.raw["k"] == 8
    assert answer.message.role == MessageRole.ASSISTANT
    assert messages[0].content == f"Context information is below.\nLima.{MARK}"


def test_chat_without_context_equals_the_plain_backbone(chat: SpringHFLLM, spring: RecordingModel) -> None:
    rendered = spring.tokenizer.apply_chat_template(
        [{"role": "user", "content": PLAIN}], tokenize=False, add_generation_prompt=True
    )
    wanted = plain_backbone(rendered.removeprefix("<|begin_of_text|>"))
    assert chat.chat([user(PLAIN)]).message.content == wanted
    assert chat.complete(PLAIN).text == wanted, "a chat model's completion is one user message"


def test_chat_without_a_template_is_rendered_as_llama_index_does(random_tokens: SpringTokens) -> None:
    spring = recording_model(random_tokens, template=False)
    llm = SpringHFLLM(model=spring, max_new_tokens=2)
    llm.chat([ChatMessage(role=MessageRole.SYSTEM, content=f"Facts: Lima.{MARK}"), user("which city?")])
    assert spring.calls[-1][0] == f"system: Facts: Lima.{MARK}\nuser: which city?\nassistant: "
    assert (spring.calls[-1][1].k, spring.calls[-1][1].boundary) == (8, "last-turn")
    assert not llm.metadata.is_chat_model


def test_history_does_not_carry_what_was_done_into_the_next_prompt(random_tokens: SpringTokens) -> None:
    spring = recording_model(random_tokens, template=False)
    llm = SpringHFLLM(model=spring, max_new_tokens=4)
    first = llm.chat([user(RAG)])
    *_, streamed = llm.stream_chat([user(RAG)])
    for response in (first, streamed):
        llm.chat([user(RAG), response.message, user("and then?")])
        assert "prompt_tokens" not in spring.calls[-1][0]
        assert response.additional_kwargs["k"] == 8


def test_template_without_a_system_role_gets_it_in_the_user_turn(spring: RecordingModel) -> None:
    spring.tokenizer.chat_template = GEMMA_LIKE
    llm = SpringHFLLM(model=spring, max_new_tokens=2)
    llm.chat([ChatMessage(role=MessageRole.SYSTEM, content=f"Lima.{MARK}"), user("which?")])
    assert spring.calls[-1][0] == f"<user>Lima.\n\n{MARK}which?\n<assistant>"
    with pytest.raises(PromptError, match="roles system"):
        llm.chat([ChatMessage(role=MessageRole.SYSTEM, content="alone")])


def test_template_that_loses_the_boundary_is_an_error(spring: RecordingModel) -> None:
    spring.tokenizer.chat_template = "{% for m in messages %}{{ m['content'][:4] }}{% endfor %}"
    with pytest.raises(PromptError, match="is_chat_model=False"):
        SpringHFLLM(model=spring).chat([user(RAG)])


@pytest.mark.parametrize("templated", [True, False])
def test_messages_that_cannot_be_read_are_refused(random_tokens: SpringTokens, templated: bool) -> None:
    llm = SpringHFLLM(model=recording_model(random_tokens, template=templated))
    with pytest.raises(PromptError, match="ImageBlock"):
        llm.chat([ChatMessage(role=MessageRole.USER, blocks=[ImageBlock(image=b"x")])])
    with pytest.raises(PromptError, match="no messages"):
        llm.chat([])


def test_stream_chat_equals_chat(chat: SpringHFLLM) -> None:
    parts = list(chat.stream_chat([user(RAG)]))
    whole = chat.chat([user(RAG)])
    assert "".join(p.delta or "" for p in parts) == parts[-1].message.content == whole.message.content
    assert parts[-1].raw == whole.raw


# Metadata


def test_metadata_leave_room_for_tokens_and_template(chat: SpringHFLLM, llm: SpringHFLLM) -> None:
    assert (llm.metadata.context_window, llm.metadata.num_output) == (WIDE - 8, 8)
    llm.k = 3
    assert llm.metadata.context_window == WIDE - 3
    assert chat.metadata.is_chat_model
    assert not llm.metadata.is_chat_model
    scaffold = chat.model.count_tokens("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n")
    assert WIDE - 8 - scaffold - 2 <= chat.metadata.context_window <= WIDE - 8 - scaffold


def test_tokenizer_hook_counts_as_the_backbone_does(llm: SpringHFLLM) -> None:
    assert len(llm.tokenizer_fn(RAG)) == llm.model.count_tokens(RAG)
    helper = PromptHelper.from_llm_metadata(llm.metadata, tokenizer=llm.tokenizer_fn)
    (chunk,) = helper.repack(PromptTemplate("{context_str}"), ["Lima. " * 3000])[:1]
    assert llm.model.count_tokens(chunk) <= WIDE - 8 - 8


def test_special_tokens_fit_the_postprocessor(llm: SpringHFLLM) -> None:
    assert "<|im_start|>" in llm.special_tokens
    assert SpringNodePostprocessor(special_tokens=llm.special_tokens).special_tokens == llm.special_tokens


class _Events(BaseEventHandler):
    seen: list[Any]

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(event)


def test_instrumentation_sees_every_call(llm: SpringHFLLM) -> None:
    handler = _Events(seen=[])
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(handler)
    try:
        llm.complete(RAG)
        llm.chat([user(RAG)])
        list(llm.stream_complete(RAG))
        asyncio.run(llm.achat([user(RAG)]))
    finally:
        dispatcher.event_handlers.remove(handler)
    ends = [e for e in handler.seen if type(e).__name__ in ("LLMCompletionEndEvent", "LLMChatEndEvent")]
    assert [type(e).__name__ for e in ends] == [
        "LLMCompletionEndEvent", "LLMChatEndEvent", "LLMCompletionEndEvent", "LLMChatEndEvent",
    ]  # fmt: skip
    assert all(e.response.raw["k"] == 8 for e in ends)
    start = next(e for e in handler.seen if type(e).__name__ == "LLMCompletionStartEvent")
    assert start.model_dict["max_new_tokens"] == 8
    json.dumps(start.model_dump(mode="json"))


# Async and threads


async def _collect(stream: Any) -> list[Any]:
    return [part async for part in await stream]


def test_async_forms_equal_the_sync_ones(chat: SpringHFLLM) -> None:
    messages = [user(RAG)]
    assert asyncio.run(chat.acomplete(RAG)) == chat.complete(RAG)
    assert asyncio.run(chat.achat(messages)) == chat.chat(messages)
    assert asyncio.run(_collect(chat.astream_complete(RAG))) == list(chat.stream_complete(RAG))
    assert asyncio.run(_collect(chat.astream_chat(messages))) == list(chat.stream_chat(messages))


def test_async_errors_reach_the_caller(chat: SpringHFLLM) -> None:
    with pytest.raises(SettingsError):
        asyncio.run(chat.acomplete(RAG, foo=1))
    with pytest.raises(TokenCountError):
        asyncio.run(_collect(chat.astream_chat([user(RAG)], k=99)))


@pytest.mark.parametrize("method", ["acomplete", "achat", "astream_complete", "astream_chat"])
def test_event_loop_goes_on_while_the_model_runs(chat: SpringHFLLM, method: str) -> None:
    ticked = threading.Event()
    waited: list[bool] = []

    def hold(*_: Any) -> None:
        # The model goes on only once the loop has run another task in the meantime.
        waited.append(ticked.wait(timeout=20))

    async def main() -> None:
        async def tick() -> None:
            while not handle_running.is_set():
                await asyncio.sleep(0)
            ticked.set()

        task = asyncio.create_task(tick())
        call = getattr(chat, method)([user(RAG)] if "chat" in method else RAG)
        result = await call
        if "stream" in method:
            assert [part async for part in result]
        await task

    handle_running = threading.Event()

    def on_forward(*args: Any) -> None:
        if not handle_running.is_set():
            handle_running.set()
            hold()

    hook = chat.model.backbone.register_forward_pre_hook(on_forward)
    try:
        asyncio.run(main())
    finally:
        hook.remove()
    assert waited == [True]


def test_leaving_an_async_stream_stops_the_model(chat: SpringHFLLM) -> None:
    async def main() -> None:
        stream = await chat.astream_complete(RAG, max_new_tokens=3000)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(main())
    assert chat.model.shared.lock.acquire(timeout=20)
    chat.model.shared.lock.release()
    assert chat.complete(PLAIN, max_new_tokens=2).raw["completion_tokens"] == 2


def test_many_threads_get_the_answers_they_get_alone(spring: SpringModel) -> None:
    one = SpringHFLLM(model=spring, max_new_tokens=6, is_chat_model=False)
    other = SpringHFLLM(model=spring, k=2, max_new_tokens=9)

    def ask(i: int) -> str:
        llm, k = (one, other)[i % 2], i % 5
        if i % 3:
            return llm.complete(f"{RAG} {i}", k=k).text
        return "".join(r.delta or "" for r in llm.stream_complete(f"{RAG} {i}", k=k))

    alone = [ask(i) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(24))) == alone
    assert len(set(alone)) > 5
