"""Chat, async and threads of `spring_integrations.llama_index.SpringHFLLM`."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole
from llama_index_kit import PLAIN, RAG, RecordingModel, plain_backbone, recording_model, user

from spring_integrations import MARK, RagPrompt, SpringModel, SpringTokens
from spring_integrations.llama_index import SpringCallError, SpringHFLLM
from spring_integrations.prompts.marks import START

GEMMA_LIKE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"
)


@pytest.fixture
def spring(random_tokens: SpringTokens) -> RecordingModel:
    return recording_model(random_tokens)


@pytest.fixture
def chat(spring: RecordingModel) -> SpringHFLLM:
    return SpringHFLLM(model=spring, max_new_tokens=8)


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
    turns = [("system", f"{START}Context information is below.\nLima.{MARK}"), ("user", "an earlier question")]
    turns += [("assistant", "an answer"), ("user", RagPrompt("", "which city?").marked())]
    conversation = [{"role": role, "content": content} for role, content in turns]
    wanted = spring.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
    assert spring.calls[-1][0] == wanted
    assert (answer.raw["k"], answer.raw["boundary"]) == (8, "last-turn")
    assert chat.complete(RAG).raw["boundary"] == "official", "a chat model's completion says by which rule, too"
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
    expected = RagPrompt("<user>Lima.\n\n", "which?\n<assistant>", passage_ends=(11,)).marked()
    assert spring.calls[-1][0].replace(START, "") == expected
    with pytest.raises(SpringCallError, match="roles system"):
        llm.chat([ChatMessage(role=MessageRole.SYSTEM, content="alone")])


def test_template_that_loses_the_boundary_is_an_error(spring: RecordingModel) -> None:
    spring.tokenizer.chat_template = "{% for m in messages %}{{ m['content'][:4] }}{% endfor %}"
    with pytest.raises(SpringCallError, match="is_chat_model=False"):
        SpringHFLLM(model=spring).chat([user(RAG)])


@pytest.mark.parametrize("templated", [True, False])
def test_messages_that_cannot_be_read_are_refused(random_tokens: SpringTokens, templated: bool) -> None:
    llm = SpringHFLLM(model=recording_model(random_tokens, template=templated))
    with pytest.raises(SpringCallError, match="ImageBlock"):
        llm.chat([ChatMessage(role=MessageRole.USER, blocks=[ImageBlock(image=b"x")])])
    with pytest.raises(SpringCallError, match="no messages"):
        llm.chat([])


def test_stream_chat_equals_chat(chat: SpringHFLLM) -> None:
    parts = list(chat.stream_chat([user(RAG)]))
    whole = chat.chat([user(RAG)])
    assert "".join(p.delta or "" for p in parts) == parts[-1].message.content == whole.message.content
    assert parts[-1].raw == whole.raw


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
    with pytest.raises(SpringCallError, match="foo"):
        asyncio.run(chat.acomplete(RAG, foo=1))
    with pytest.raises(SpringCallError, match="k=99"):
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
    assert chat.model.frozen.lock.acquire(timeout=20)
    chat.model.frozen.lock.release()
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
