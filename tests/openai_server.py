"""An OpenAI-compatible server on this machine for an exported tiny model, and its address."""

from __future__ import annotations

import base64
import contextlib
import copy
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from spring_integrations import SpringTokens
from spring_integrations.prompts import token_text


class ServedModel:
    """A model whose tokens are rows of its table (the authors' recipe), and the requests it got."""

    def __init__(self, model: PreTrainedModel, words: PreTrainedTokenizerFast, tokens: SpringTokens) -> None:
        self._model, self._words = copy.deepcopy(model), copy.deepcopy(words)
        self._words.add_tokens([f"[ref{i}]" for i in range(1, len(tokens) + 1)])
        weight = self._model.get_input_embeddings().weight
        weight.data = torch.cat([weight.data, tokens.embeddings])
        self._lock = threading.Lock()
        self.address = ""
        self.requests: list[dict[str, Any]] = []

    @property
    def token_counts(self) -> list[int]:
        """How many virtual tokens each request held as text."""
        sent = [json.dumps(r.get("prompt") or r["messages"]) for r in self.requests]
        return [next((k for k in range(8, 0, -1) if token_text(k) in s), 0) for s in sent]

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.requests.append(request)
            if request.get("prompt_embeds"):
                return self._answer_to_vectors(request)
            if "messages" in request and any(isinstance(m["content"], list) for m in request["messages"]):
                return self._answer_to_vectors(request, self._spliced(request["messages"]))
            if "messages" in request:
                text = self._words.apply_chat_template(
                    request["messages"], tokenize=False, add_generation_prompt=True
                ).removeprefix(self._words.bos_token)
            else:
                text = request["prompt"]
            ids = self._words(text, return_tensors="pt")
            settings = {"max_new_tokens": _room(request), "do_sample": False, "pad_token_id": 0}
            out = self._model.generate(**ids, **settings)[0, ids.input_ids.shape[1] :]
            done = self._words.decode(out, skip_special_tokens=True)
        for stop in request.get("stop") or []:
            done = done.partition(stop)[0]
        choice = {"message": {"role": "assistant", "content": done}} if "messages" in request else {"text": done}
        usage = {"prompt_tokens": ids.input_ids.shape[1], "completion_tokens": len(out)}
        return {**_frame(request), "choices": [{"index": 0, "finish_reason": "stop", **choice}], "usage": usage}

    def _spliced(self, messages: list[dict[str, Any]]) -> torch.Tensor:
        """Fills the chat template as vLLM does: with the vectors of `prompt_embeds` parts where their turns stand."""
        parts = [m["content"][0]["data"] for m in messages if isinstance(m["content"], list)]
        turns = [{**m, "content": "<|part|>"} if isinstance(m["content"], list) else m for m in messages]
        text = self._words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        table = self._model.get_input_embeddings()
        rows = [table(torch.tensor(self._words(t, add_special_tokens=False).input_ids)) for t in text.split("<|part|>")]
        vectors = [row for part, row in zip(parts, rows[1:], strict=True) for row in (_vectors(part), row)]
        return torch.cat([rows[0], *vectors])

    def _answer_to_vectors(self, request: dict[str, Any], vectors: torch.Tensor | None = None) -> dict[str, Any]:
        """Answers as vLLM does with --enable-prompt-embeds."""
        if vectors is None:
            assert request["prompt"] is None, "vLLM would answer an empty prompt too"
            vectors = _vectors(request["prompt_embeds"])
        vectors = vectors[None]
        mask = torch.ones(vectors.shape[:2], dtype=torch.long)
        settings = {"max_new_tokens": _room(request), "do_sample": False, "pad_token_id": 0}
        out = self._model.generate(inputs_embeds=vectors, attention_mask=mask, **settings)[0]
        done = self._words.decode(out, skip_special_tokens=True)
        choice = {"message": {"role": "assistant", "content": done}} if "messages" in request else {"text": done}
        choice |= {"index": 0, "finish_reason": "stop"}
        return {
            **_frame(request),
            "choices": [choice],
            "usage": {"prompt_tokens": vectors.shape[1], "completion_tokens": len(out)},
        }


def _vectors(payload: str) -> torch.Tensor:
    return torch.load(io.BytesIO(base64.b64decode(payload)), weights_only=True)


def _room(request: dict[str, Any]) -> int:
    return request.get("max_completion_tokens") or request["max_tokens"]


def _frame(request: dict[str, Any]) -> dict[str, Any]:
    """What clients of OpenAI expect besides the answer."""
    kind = "text_completion"
    if "messages" in request:
        kind = "chat.completion.chunk" if request.get("stream") else "chat.completion"
    return {"id": "1", "created": 0, "model": request["model"], "object": kind}


def _events(request: dict[str, Any], answer: dict[str, Any]) -> str:
    """The answer in two pieces, as a stream of events."""
    (choice,) = answer["choices"]
    whole = choice["message"]["content"] if "messages" in request else choice["text"]
    events = []
    for piece, end in ((whole[:3], None), (whole[3:], "stop")):
        content = {"delta": {"role": "assistant", "content": piece}} if "messages" in request else {"text": piece}
        choices = [{"index": 0, "finish_reason": end, **content}]
        events.append("data: " + json.dumps({**_frame(request), "choices": choices}))
    return "\n\n".join([*events, "data: [DONE]", ""])


@contextlib.contextmanager
def serve(*parts: Any) -> Iterator[ServedModel]:
    """Serves a model with tokens until the block ends; the arguments are those of `ServedModel`."""
    served = ServedModel(*parts)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = served.answer(request)
            streamed = request.get("stream", False)
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.end_headers()
            self.wfile.write((_events(request, answer) if streamed else json.dumps(answer)).encode())

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    served.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
