"""The LangChain chat model: messages, streams, what was done, tools and structured output."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import pytest
import tiny_models
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)
from langchain_core.messages.modifier import RemoveMessage
from langchain_core.runnables import ConfigurableField
from langchain_parts import QUESTION, TokenCollector
from pydantic import BaseModel
from taught_chat import CALLS, JOKE, JSON_TEMPLATE, RIDDLE, TALK, TALK_TEMPLATE, taught_model

from spring_integrations import MARK, SpringModel
from spring_integrations.chat.tool_calls import read_calls, text_before_call
from spring_integrations.errors import PromptError, SettingsError, TokenCountError, ToolsError
from spring_integrations.langchain import ChatSpringHF, SpringHFLLM
from spring_integrations.prompts import RagPrompt

CONTEXT = SystemMessage(f"Use these facts.\nLima is the capital of Peru.{MARK}")
RAG = [CONTEXT, HumanMessage(QUESTION)]
FACTS = "Use these facts.\nLima is the capital of Peru."
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
)


@pytest.fixture
def chat(spring_llama: SpringModel) -> ChatSpringHF:
    return ChatSpringHF(model=spring_llama, max_new_tokens=12)


@pytest.fixture(scope="module")
def taught() -> ChatSpringHF:
    return ChatSpringHF(model=taught_model(), max_new_tokens=100)


@pytest.fixture(scope="module")
def writer() -> ChatSpringHF:
    """Its template has no tools, and it answers in JSON."""
    return ChatSpringHF(model=taught_model(JSON_TEMPLATE), max_new_tokens=100)


@pytest.fixture(scope="module")
def talker() -> ChatSpringHF:
    """It says something and then calls a tool."""
    return ChatSpringHF(model=taught_model(TALK_TEMPLATE), max_new_tokens=100)


def get_weather(location: str) -> str:
    """Weather at a location."""
    return f"Sunny in {location}."


def magic_function(input: int) -> int:
    """Magic."""
    return input + 2


class Joke(BaseModel):
    """A joke."""

    setup: str
    punchline: str


class JokeDict(TypedDict):
    """A joke."""

    setup: str
    punchline: str


def _rendered(model: SpringModel, *turns: tuple[str, str]) -> str:
    conversation = [{"role": role, "content": content} for role, content in turns]
    return str(model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))


async def _collect(stream: Any) -> list[Any]:
    return [piece async for piece in stream]


def _joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    full = chunks[0]
    for chunk in chunks[1:]:
        full += chunk
    return full


# Messages


def test_a_chat_is_the_template_with_tokens_before_the_question(chat: ChatSpringHF) -> None:
    messages = [CONTEXT, HumanMessage("Hi"), AIMessage("Yes?"), HumanMessage(QUESTION)]
    text = _rendered(
        chat.model, ("system", FACTS), ("user", "Hi"), ("assistant", "Yes?"), ("user", f"{MARK}{QUESTION}")
    )
    (wanted,) = chat.model.generate(text, max_new_tokens=12)
    answer = chat.invoke(messages)
    assert answer.content == wanted.text
    done = {**wanted.info(), "boundary": "last-turn", "model_name": chat.model.name}
    assert {name: answer.response_metadata[name] for name in done} == done
    assert messages[0].content == CONTEXT.content


def test_a_chat_without_context_equals_the_plain_backbone(chat: ChatSpringHF) -> None:
    model, words = tiny_models.build("llama")
    ids = words(_rendered(chat.model, ("user", "Hi")), add_special_tokens=False, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=12, do_sample=False, pad_token_id=0)[0, ids.input_ids.shape[1] :]
    answer = chat.invoke("Hi")
    assert answer.content == words.decode(out, skip_special_tokens=True)
    assert (answer.response_metadata["k"], answer.response_metadata["boundary"]) == (0, None)
    plain = ChatSpringHF(model=SpringModel(model, words), max_new_tokens=12)
    assert chat.invoke(RAG, k=0).content == plain.invoke(RAG).content


def test_blocks_of_text_are_read_and_others_refused(chat: ChatSpringHF) -> None:
    blocks = [SystemMessage([{"type": "text", "text": CONTEXT.content}]), HumanMessage([QUESTION[:5], QUESTION[5:]])]
    assert chat.invoke(blocks).content == chat.invoke(RAG).content
    assert chat.invoke([*RAG[:1], ChatMessage(role="user", content=QUESTION)]).content == chat.invoke(RAG).content
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}])
    with pytest.raises(PromptError, match="message of type 'human' holds a block of type 'image_url'"):
        chat.invoke([image])
    with pytest.raises(PromptError, match="RemoveMessage is not a message of a chat"):
        chat.invoke([RemoveMessage(id="1"), *RAG])
    with pytest.raises(PromptError, match="no messages"):
        chat.invoke([])


def test_thoughts_and_names_of_roles_of_other_models_are_read(chat: ChatSpringHF) -> None:
    said = [HumanMessage("Hi"), AIMessage("Yes?"), HumanMessage("Where?")]
    thoughts = [{"type": "thinking", "thinking": "Hm"}, {"type": "reasoning", "reasoning": "Hm"}]
    thought = AIMessage([*thoughts, {"type": "text", "text": "Yes?"}])
    assert chat.invoke([said[0], thought, said[2]]).content == chat.invoke(said).content
    named = [ChatMessage(role="ai" if m.type == "ai" else "human", content=m.content) for m in said]
    assert chat.invoke(named).content == chat.invoke(said).content
    with pytest.raises(PromptError, match="block of type 'thinking'"):
        chat.invoke([HumanMessage(thoughts[:1])])


def test_messages_are_counted_as_the_template_writes_them(chat: ChatSpringHF, taught: ChatSpringHF) -> None:
    messages = [CONTEXT, HumanMessage("Hi"), AIMessage("Yes?"), HumanMessage(QUESTION)]
    count = chat.get_num_tokens_from_messages(messages)
    assert count == chat.invoke(messages, k=0).usage_metadata["input_tokens"]
    kept = trim_messages(messages, max_tokens=count - 1, token_counter=chat, include_system=True, start_on="human")
    assert (kept[0], kept[-1]) == (messages[0], messages[-1])
    assert 2 <= len(kept) < 4
    assert chat.get_num_tokens_from_messages([]) == 0
    with_tools = taught.get_num_tokens_from_messages(messages, tools=[get_weather])
    assert with_tools == taught.invoke(messages, k=0, tools=[get_weather]).usage_metadata["input_tokens"]


def test_parts_of_chats_that_no_template_takes_are_counted(spring_llama: SpringModel) -> None:
    spring_llama.tokenizer.chat_template = ALTERNATING
    chat = ChatSpringHF(model=spring_llama)
    assert chat.get_num_tokens_from_messages([AIMessage("Yes?")]) > chat.get_num_tokens("Yes?")


def test_a_template_that_wants_roles_in_turn_gets_them(spring_llama: SpringModel) -> None:
    spring_llama.tokenizer.chat_template = ALTERNATING
    chat = ChatSpringHF(model=spring_llama, max_new_tokens=4)
    done = chat.invoke([CONTEXT, HumanMessage("Hi"), HumanMessage(QUESTION)])
    text = f"<user>{FACTS}\n\n{MARK}Hi\n\n{QUESTION}<assistant>"
    prompt = RagPrompt.parse(text.replace(f"{MARK}Hi\n\n", f"Hi\n\n{MARK}"))
    (wanted,) = spring_llama.generate(replace(prompt, rendered=True), max_new_tokens=4)
    assert (done.content, done.usage_metadata["input_tokens"]) == (wanted.text, wanted.prompt_tokens)


def test_without_a_template_it_says_so_when_made(spring_llama: SpringModel) -> None:
    spring_llama.tokenizer.chat_template = None
    with pytest.raises(PromptError, match="no chat template; use SpringHFLLM"):
        ChatSpringHF(model=spring_llama)


def test_a_chat_that_is_too_long_loses_passages_not_the_question(chat: ChatSpringHF) -> None:
    many = SystemMessage(CONTEXT.content + "\n".join(f"Passage {i} is long.{MARK}" for i in range(60)))
    answer = chat.invoke([many, HumanMessage(QUESTION)])
    assert answer.response_metadata["dropped_passages"] > 20
    assert (answer.response_metadata["k"], answer.response_metadata["boundary"]) == (8, "last-turn")


# Streams, async, callbacks


@pytest.mark.parametrize("messages", [RAG, "Hi"])
def test_streams_add_up_to_the_answer(chat: ChatSpringHF, messages: Any) -> None:
    whole = chat.invoke(messages)
    for chunks in (list(chat.stream(messages)), asyncio.run(_collect(chat.astream(messages)))):
        full = _joined(chunks)
        assert len([c for c in chunks if c.content]) > 3
        assert full.content == whole.content
        assert full.usage_metadata == whole.usage_metadata
        assert full.response_metadata == whole.response_metadata
    assert asyncio.run(chat.ainvoke(messages)).content == whole.content
    usage = whole.usage_metadata
    assert usage["input_tokens"] == whole.response_metadata["prompt_tokens"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_callbacks_get_tokens_and_usage(chat: ChatSpringHF) -> None:
    handler, usage = TokenCollector(), UsageMetadataCallbackHandler()
    pieces = list(chat.stream(RAG, config={"callbacks": [handler, usage]}))
    assert "".join(handler.tokens) == _joined(pieces).content
    assert handler.boosts == [("last-turn", 8)]
    assert usage.usage_metadata[chat.model.name]["output_tokens"] == 12
    streaming, handler = ChatSpringHF(model=chat.model, max_new_tokens=12, streaming=True), TokenCollector()
    assert (
        streaming.invoke(RAG, {"callbacks": [handler]}).content == "".join(handler.tokens) == chat.invoke(RAG).content
    )
    assert len(list(ChatSpringHF(model=chat.model, streaming=False).stream(RAG))) == 1


def test_closing_a_stream_stops_the_model(chat: ChatSpringHF) -> None:
    steps: list[int] = []
    hook = chat.model.backbone.register_forward_hook(lambda *_: steps.append(1))

    async def first() -> None:
        pieces = chat.astream(RAG, max_new_tokens=150)
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(first())
    assert 0 < len(steps) < 75
    steps.clear()
    stream = chat.stream(RAG, max_new_tokens=150)
    next(stream)
    stream.close()
    hook.remove()
    assert 0 < len(steps) < 75


def test_async_calls_leave_the_event_loop_free(chat: ChatSpringHF) -> None:
    go = threading.Event()
    hook = chat.model.backbone.register_forward_pre_hook(lambda *_: go.wait(timeout=20) and None)

    async def main() -> list[AIMessage]:
        calls = [asyncio.create_task(chat.ainvoke(RAG)) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
        assert await asyncio.to_thread(lambda: "free") == "free"
        go.set()
        return await asyncio.gather(*calls)

    answers = asyncio.run(main())
    hook.remove()
    assert len({answer.content for answer in answers}) == 1


# Settings


def test_stop_k_and_settings_per_call(chat: ChatSpringHF) -> None:
    whole = chat.invoke(RAG).content
    stop, kept = whole[4:6], whole[: whole.index(whole[4:6])]
    assert chat.invoke(RAG, stop=[stop]).content == kept
    assert chat.bind(stop=[stop]).invoke(RAG).content == kept
    assert _joined(list(chat.stream(RAG, stop=[stop]))).content == kept
    assert ChatSpringHF(model=chat.model, max_new_tokens=12, stop=stop).invoke(RAG).content == kept
    assert chat.bind(k=2).invoke(RAG).response_metadata["k"] == 2
    assert chat.invoke(RAG, max_tokens=3).usage_metadata["output_tokens"] == 3
    assert ChatSpringHF(model=chat.model, max_tokens=3).invoke(RAG).usage_metadata["output_tokens"] == 3
    configurable = chat.configurable_fields(k=ConfigurableField(id="k"))
    assert configurable.with_config(configurable={"k": 5}).invoke(RAG).response_metadata["k"] == 5
    with pytest.raises(TokenCountError, match="n=8"):
        chat.invoke(RAG, k=9)
    for unknown in ("timeout", "model"):
        with pytest.raises(SettingsError, match=f"cannot set {unknown}"):
            chat.invoke(RAG, **{unknown: "x"})


def test_beams_and_sampling(chat: ChatSpringHF) -> None:
    beams = ChatSpringHF(model=chat.model, num_beams=2, max_new_tokens=6)
    assert _joined(list(beams.stream(RAG))).content == beams.invoke(RAG).content
    assert chat.invoke(RAG, temperature=1.0, seed=5).content == chat.invoke(RAG, temperature=1.0, seed=5).content
    assert chat.invoke(RAG, temperature=1.0, seed=5).content != chat.invoke(RAG, temperature=1.0, seed=6).content


def test_the_cache_tells_settings_apart(chat: ChatSpringHF) -> None:
    steps: list[int] = []
    hook = chat.model.backbone.register_forward_hook(lambda *_: steps.append(1))
    set_llm_cache(InMemoryCache())
    try:
        variants = [
            lambda: chat.invoke(RAG),
            lambda: chat.invoke(RAG, k=2),
            lambda: chat.bind(k=0).invoke(RAG),
            lambda: ChatSpringHF(model=chat.model, k=3, max_new_tokens=12).invoke(RAG),
            lambda: asyncio.run(chat.ainvoke(RAG, max_new_tokens=2)),
            lambda: chat.bind(json_schema={"title": "x"}).invoke(RAG),
        ]
        for variant in variants:
            before = len(steps)
            first = variant()
            assert len(steps) > before
            before = len(steps)
            assert variant().content == first.content
            assert len(steps) == before
    finally:
        set_llm_cache(None)
        hook.remove()


def test_copies_and_dumps_hold_no_weights(chat: ChatSpringHF, llama_folder: Path, tokens_file: Path) -> None:
    loaded = ChatSpringHF(str(llama_folder), tokens_file, k=3, max_new_tokens=5)
    data = pickle.dumps(loaded)
    assert len(data) < 5_000
    assert pickle.loads(data).invoke(RAG).content == loaded.invoke(RAG).content
    assert len(json.dumps(dumpd(chat))) < 2_000
    params = dict(chat._identifying_params)
    assert json.loads(json.dumps(params)) == params
    twin = copy.deepcopy(chat)
    assert twin.model.backbone is chat.model.backbone
    assert twin.invoke(RAG).content == chat.invoke(RAG).content


def test_one_backbone_serves_llm_and_chat(chat: ChatSpringHF) -> None:
    llm = SpringHFLLM(model=chat.model, max_new_tokens=12)
    assert llm.model.backbone is chat.model.backbone
    text = _rendered(chat.model, ("system", FACTS), ("user", f"{MARK}{QUESTION}"))
    assert llm.invoke(text) == chat.invoke(RAG).content


# Tools


def test_the_model_calls_a_tool_and_reads_its_result(taught: ChatSpringHF) -> None:
    bound = taught.bind_tools([get_weather, magic_function])
    call = bound.invoke([HumanMessage("Weather?")])
    assert [(c["name"], c["args"]) for c in call.tool_calls] == [("get_weather", CALLS["get_weather"])]
    assert call.content == ""
    result = ToolMessage(get_weather(**call.tool_calls[0]["args"]), tool_call_id=call.tool_calls[0]["id"])
    with pytest.raises(SettingsError, match="cannot set timeout"):
        bound.invoke("Hi", timeout=3)
    assert bound.invoke([HumanMessage("Weather?"), call, result]).response_metadata["finish_reason"] == "stop"
    streamed = _joined(list(bound.stream("Weather?")))
    assert [(c["name"], c["args"]) for c in streamed.tool_calls] == [("get_weather", CALLS["get_weather"])]
    assert streamed.usage_metadata == asyncio.run(bound.ainvoke("Weather?")).usage_metadata


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        (None, "get_weather"),
        ("auto", "get_weather"),
        ("any", "get_weather"),
        (True, "get_weather"),
        ("magic_function", "magic_function"),
        ({"type": "function", "function": {"name": "magic_function"}}, "magic_function"),
        ("none", None),
        (False, None),
    ],
)
def test_tool_choice_is_obeyed(taught: ChatSpringHF, choice: Any, called: str | None) -> None:
    answer = taught.bind_tools([get_weather, magic_function], tool_choice=choice).invoke("Hi")
    assert [c["name"] for c in answer.tool_calls] == [called] * (called is not None)
    assert not called or answer.tool_calls[0]["args"] == CALLS[called]


def test_tools_keep_the_virtual_tokens(taught: ChatSpringHF) -> None:
    answer = taught.bind_tools([magic_function], tool_choice="any").invoke(RAG, k=3)
    assert (answer.response_metadata["k"], answer.response_metadata["boundary"]) == (3, "last-turn")
    assert answer.tool_calls[0]["args"] == {"input": 3}


def test_a_choice_that_is_bound_by_hand_is_checked_too(taught: ChatSpringHF) -> None:
    tools = [get_weather, magic_function]
    named = {"type": "function", "function": {"name": "magic_function"}}
    for choice, called in (("required", "get_weather"), (True, "get_weather"), (named, "magic_function")):
        assert taught.bind(tools=tools, tool_choice=choice).invoke("Hi").tool_calls[0]["name"] == called
    for choice in ("none", False):
        plain = taught.invoke("Hi", tools=tools, tool_choice=choice)
        assert plain.content == taught.invoke("Hi").content
    for given in (tools, []):
        with pytest.raises(SettingsError, match="'nothing' is none of the tools"):
            taught.invoke("Hi", tools=given, tool_choice="nothing")
    with pytest.raises(SettingsError, match="'any' is none of the tools"):
        taught.invoke("Hi", tool_choice="required")


def test_text_before_a_call_streams(talker: ChatSpringHF) -> None:
    bound = talker.bind_tools([get_weather])
    whole = bound.invoke("Weather?")
    assert (whole.content, whole.tool_calls[0]["args"]) == (TALK, CALLS["get_weather"])
    for chunks in (list(bound.stream("Weather?")), asyncio.run(_collect(bound.astream("Weather?")))):
        assert len([c for c in chunks if c.content]) > 5
        full = _joined(chunks)
        assert (full.content, full.tool_calls[0]["args"]) == (TALK, CALLS["get_weather"])
    steps: list[int] = []
    hook = talker.model.backbone.register_forward_hook(lambda *_: steps.append(1))
    stream = bound.stream("Weather?")
    next(stream)
    stream.close()
    hook.remove()
    assert 0 < len(steps) < whole.usage_metadata["output_tokens"] - 20


CALL = '{"name": "f", "arguments": {}}'


@pytest.mark.parametrize("opening", ["<tool_call>", "[TOOL_CALLS] [", ""])
@pytest.mark.parametrize(
    "answer",
    [
        f"  I look.\n<tool_call>\n{CALL}\n</tool_call>",
        f"I [see] [{CALL}]",
        f"I see {CALL}",
        "a < b, {x} and all\n",
        'So <tool_call>\n{"nam',
        f"<think>\n\n</think>\n\nSo {CALL}",
        f'<think>{{"a"</think> So <tool_call>{CALL}',
    ],
)
def test_what_streams_before_a_call_is_the_text_in_the_end(answer: str, opening: str) -> None:
    text = read_calls(answer, opening, ["f"]).text.lstrip()
    pieces = [text_before_call(answer[:end], opening) for end in range(len(answer) + 1)]
    assert [piece for piece in pieces if not text.startswith(piece)] == []
    assert len(set(pieces)) > 1


def test_strict_schemas_and_one_call_at_a_time(taught: ChatSpringHF, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = taught.bind_tools([get_weather], strict=True, parallel_tool_calls=False)
    assert bound.kwargs["tools"][0]["function"]["strict"] is True
    assert [call["name"] for call in bound.invoke("Hi").tool_calls] == ["get_weather"]
    twice = "\n".join([f"<tool_call>{json.dumps({'name': 'get_weather', 'arguments': {}})}</tool_call>"] * 2)
    original = taught._spring.generate

    def generate(*args: Any, **settings: Any) -> Any:
        return [replace(answer, text=twice) for answer in original(*args, **settings)]

    monkeypatch.setattr(taught._spring, "generate", generate)
    assert len(bound.invoke("Hi").tool_calls) == 1
    assert len(taught.bind_tools([get_weather], parallel_tool_calls=True).invoke("Hi").tool_calls) == 2


def test_a_broken_call_is_reported_as_such(taught: ChatSpringHF) -> None:
    bound = taught.bind_tools([get_weather])
    answer = bound.invoke("Hi", max_new_tokens=20)
    assert (answer.content, answer.tool_calls) == ("", [])
    assert answer.invalid_tool_calls[0]["args"].startswith('<tool_call>\n{"name"')
    assert _joined(list(bound.stream("Hi", max_new_tokens=20))).invalid_tool_calls
    assert taught.bind_tools([magic_function]).invoke("Hi").invalid_tool_calls, "get_weather is not bound"


def test_tools_are_refused_where_they_cannot_work(chat: ChatSpringHF, taught: ChatSpringHF) -> None:
    with pytest.raises(NotImplementedError, match="does not write tools as JSON"):
        chat.bind_tools([get_weather])
    with pytest.raises(ToolsError, match="does not write tools"):
        chat.bind(tools=[{"type": "function", "function": {"name": "x"}}]).invoke("Hi")
    with pytest.raises(ToolsError, match="method='json_schema'"):
        chat.with_structured_output(Joke, method="function_calling")
    with pytest.raises(SettingsError, match="'nothing' is none of the tools get_weather"):
        taught.bind_tools([get_weather], tool_choice="nothing")


# Structured output


@pytest.mark.parametrize(
    ("schema", "wanted"), [(Joke, Joke(**JOKE)), (JokeDict, JOKE), (Joke.model_json_schema(), JOKE)]
)
def test_structured_output_by_a_tool(taught: ChatSpringHF, schema: Any, wanted: Any) -> None:
    asked = taught.with_structured_output(schema)
    assert asked.invoke("A joke!") == wanted
    assert list(asked.stream("A joke!")) == [wanted]
    assert asyncio.run(asked.ainvoke(RAG)) == wanted


@pytest.mark.parametrize("method", [None, "json_schema", "json_mode"])
@pytest.mark.parametrize("schema", [Joke, JokeDict])
def test_structured_output_by_json(writer: ChatSpringHF, schema: Any, method: Any) -> None:
    asked = writer.with_structured_output(schema, method=method, strict=method and True)
    wanted = Joke(**RIDDLE) if schema is Joke else RIDDLE
    assert asked.invoke("A joke!") == wanted
    assert list(asked.stream("A joke!")) == [wanted]
    raw = writer.with_structured_output(schema, method=method, include_raw=True).invoke(RAG)
    assert (raw["parsed"], raw["parsing_error"], raw["raw"].response_metadata["k"]) == (wanted, None, 8)


def test_the_schema_stands_in_the_system_message(chat: ChatSpringHF, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    original = chat._spring.generate
    monkeypatch.setattr(chat._spring, "generate", lambda prompt, **kw: seen.append(prompt) or original(prompt, **kw))
    for method, shown in (("json_schema", True), ("json_mode", False)):
        with pytest.raises(OutputParserException):
            chat.with_structured_output(Joke, method=method).invoke(RAG)
        assert ('"punchline"' in seen[-1].before) is shown
        assert seen[-1].after.startswith(QUESTION)
        assert seen[-1].before.index("<|im_start|>system") < seen[-1].before.index(FACTS)
    with pytest.raises(OutputParserException):
        chat.with_structured_output(Joke).invoke("Hi")
    assert seen[-1].text.index('"punchline"') < seen[-1].text.index("Hi")


def test_structured_output_that_is_not_what_was_asked_for_raises(taught: ChatSpringHF, writer: ChatSpringHF) -> None:
    class Person(BaseModel):
        """A person."""

        name: str

    with pytest.raises(OutputParserException, match="no Person"):
        writer.with_structured_output(Person).invoke("Who?")
    with pytest.raises(OutputParserException, match="keys of the schema: name"):
        writer.with_structured_output(Person.model_json_schema(), strict=True).invoke("Who?")
    assert writer.with_structured_output(Person.model_json_schema()).invoke("Who?") == RIDDLE
    with pytest.raises(OutputParserException, match="ended at max_new_tokens"):
        writer.with_structured_output(Joke).invoke("Hi", max_new_tokens=5)
    with pytest.raises(OutputParserException, match="ended at max_new_tokens"):
        taught.with_structured_output(Joke).invoke("Hi", max_new_tokens=5)
    raw = writer.with_structured_output(Person, include_raw=True).invoke("Who?")
    assert raw["parsed"] is None and isinstance(raw["parsing_error"], OutputParserException)
    with pytest.raises(SettingsError, match="method='magic' is not one of 'function_calling'"):
        taught.with_structured_output(Joke, method="magic")
