"""What the LlamaIndex tests share: a model that records what it got, an offline embedding, documents."""

from __future__ import annotations

import inspect
import json
import re
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llama_index.core
import tiny_models
import torch
from llama_index.core import Settings
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.chat_engine import condense_plus_context, context
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.custom import CustomLLM
from llama_index.core.schema import TextNode
from transformers import AutoModelForCausalLM, AutoTokenizer

from spring_integrations import MARK, Generation, RagPrompt, SpringModel, SpringTokens
from spring_integrations.llama_index import SpringHFLLM

WIDE = 4096
RAG = f"[1] Lima is the capital of Peru.{MARK}\n\nQuestion: what is the capital of Peru?\nAnswer:"
PLAIN = "What is the capital of Peru?"
QUESTION = "what is the capital of Peru?"

NODES = tuple(
    TextNode(id_=f"n{i}", text=text, metadata={"city": city})
    for i, (city, text) in enumerate(
        [
            ("Lima", "Lima is the capital of Peru. The river Rímac flows through the city to the Pacific."),
            ("Quito", "Quito is the capital of Ecuador and lies at the foot of the volcano Pichincha."),
            ("Oslo", "Oslo is the capital of Norway; its harbour lies at the head of a long fjord."),
            ("Accra", "Accra is the capital of Ghana, a port on the Gulf of Guinea with wide beaches."),
        ]
    )
)
LONG = TextNode(id_="long", text=" ".join(f"Fact {i} of Peru: its capital is Lima." for i in range(40)))
CONTEXT = re.compile(r"Fact \d|Rímac|Pichincha|fjord|beaches")
"""What only the nodes say."""


class RecordingModel(SpringModel):
    """Keeps every prompt it was given, as a string, and what it did."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[tuple[str, Generation]] = []

    def generate(self, prompts: Any, **kwargs: Any) -> list[Generation]:
        done = super().generate(prompts, **kwargs)
        listed = [prompts] if isinstance(prompts, str | RagPrompt) else prompts
        self.calls += zip(map(_as_text, listed), done, strict=True)
        return done

    def stream(self, prompt: str | RagPrompt, **kwargs: Any) -> Iterator[str | Generation]:
        pieces = super().stream(prompt, **kwargs)

        def recorded() -> Iterator[str | Generation]:
            try:
                for piece in pieces:
                    if isinstance(piece, Generation):
                        self.calls.append((_as_text(prompt), piece))
                    yield piece
            finally:
                pieces.close()  # type: ignore[attr-defined]

        return recorded()


def _as_text(prompt: str | RagPrompt) -> str:
    return prompt if isinstance(prompt, str) else prompt.marked()


def recording_model(tokens: SpringTokens | None, *, window: int = WIDE, template: bool = True) -> RecordingModel:
    """Returns a tiny Llama that records; its rotary positions allow any window."""
    model, tokenizer = tiny_models.build("llama")
    model.config.max_position_embeddings = window
    tokenizer.model_max_length = window
    if not template:
        tokenizer.chat_template = None
    return RecordingModel(model, tokenizer, tokens)


def make_llm(tokens: SpringTokens, *, chat: bool = False, window: int = WIDE, **settings: Any) -> SpringHFLLM:
    """Returns an LLM on a recording model, by whose tokenizer LlamaIndex counts from now on."""
    llm = SpringHFLLM(model=recording_model(tokens, window=window, template=chat), max_new_tokens=6, **settings)
    Settings.tokenizer = llm.tokenizer_fn
    return llm


def small_llm(tokens: SpringTokens, window: int, *, chat: bool, **settings: Any) -> SpringHFLLM:
    """Returns a recording LLM of a small window, whose tokenizer has the words of LlamaIndex's prompts.

    LlamaIndex's `Settings` stay as they are.
    """
    words = tiny_models.tokenizer("byte-level")
    told = [
        QUESTION,
        *(node.text for node in (*NODES, LONG)),
        *map(inspect.getsource, (condense_plus_context, context)),
    ]
    learned = words.train_new_from_iterator(told, 1500, show_progress=False)
    learned.chat_template = words.chat_template if chat else None
    learned.model_max_length = window
    model = tiny_models.model("llama", learned)
    model.config.max_position_embeddings = window
    return SpringHFLLM(model=RecordingModel(model, learned, tokens), max_new_tokens=6, **settings)


def calls(llm: SpringHFLLM) -> list[tuple[str, Generation]]:
    """The prompts that a recording LLM was given, and what was done."""
    assert isinstance(llm.model, RecordingModel)
    return llm.model.calls


def assert_boosted(llm: SpringHFLLM) -> None:
    """Every call was given virtual tokens, and no context comes after them."""
    assert calls(llm)
    for prompt, done in calls(llm):
        assert (done.k, done.boundary is not None) == (8, True), prompt
        assert not CONTEXT.search(RagPrompt.parse(prompt).after), prompt


@contextmanager
def kept_settings() -> Iterator[None]:
    """Gives LlamaIndex its global settings back in the end."""
    names = ("_prompt_helper", "_llm", "_embed_model")
    kept = {name: getattr(Settings, name) for name in names}
    tokenizer = llama_index.core.global_tokenizer  # where Settings.tokenizer puts it
    yield
    llama_index.core.global_tokenizer = tokenizer
    for name, value in kept.items():
        setattr(Settings, name, value)


class _Events(BaseEventHandler):
    seen: list[Any]

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.seen.append(event)


@contextmanager
def recorded_events() -> Iterator[list[Any]]:
    """Gives the list of LlamaIndex's instrumentation events, which grows meanwhile."""
    handler = _Events(seen=[])
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(handler)
    try:
        yield handler.seen
    finally:
        dispatcher.event_handlers.remove(handler)


class TransformersLLM(CustomLLM):
    """A local model without any code of ours: what a chain used before, and what else it may use."""

    folder: str
    prompts: list[str] = Field(default_factory=list)
    _loaded: Any = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        loaders = (AutoModelForCausalLM, AutoTokenizer)
        self._loaded = tuple(loader.from_pretrained(self.folder) for loader in loaders)

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=WIDE, num_output=8, model_name=self.folder)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self.prompts.append(prompt)
        return CompletionResponse(text=_greedy(*self._loaded, prompt, 8))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError


class ServerLLM(CustomLLM):
    """The least client of an OpenAI-compatible server."""

    url: str
    is_chat_model: bool = False
    context_window: int = WIDE

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self.context_window, num_output=8, is_chat_model=self.is_chat_model, model_name="tiny"
        )

    def _post(self, path: str, **body: Any) -> Any:
        data = json.dumps(body | {"model": "tiny", "max_tokens": 8}).encode()
        with urllib.request.urlopen(f"{self.url}/{path}", data, timeout=60) as answer:
            return json.load(answer)["choices"][0]

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        if self.is_chat_model:
            return CompletionResponse(text=self.chat([user(prompt)]).message.content or "")
        return CompletionResponse(text=self._post("completions", prompt=prompt)["text"])

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        text = self.complete(prompt).text
        return (CompletionResponse(text=text[:n], delta=text[n - 1 : n]) for n in range(1, len(text) + 1))

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        if not self.is_chat_model:
            return super().chat(messages, **kwargs)
        turns = [{"role": m.role.value, "content": m.content} for m in messages]
        return ChatResponse(message=ChatMessage(**self._post("chat/completions", messages=turns)["message"]))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        whole = self.chat(messages)
        return (response for response in [whole.model_copy(update={"delta": whole.message.content})])


class HashEmbedding(BaseEmbedding):
    """Words hashed into 64 counts: texts that share words are near."""

    def _get_text_embedding(self, text: str) -> list[float]:
        vector = [0.01] * 64
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % 64] += 1.0
        return vector

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


def plain_backbone(text: str, *, max_new_tokens: int = 8) -> str:
    """What transformers itself answers, without any code of ours."""
    return _greedy(*tiny_models.build("llama"), text, max_new_tokens)


def _greedy(model: Any, tokenizer: Any, text: str, max_new_tokens: int) -> str:
    inputs = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0)
    return str(tokenizer.decode(out[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))
