"""An exported model behind an OpenAI-compatible server on this machine: tiny, real, and it records what is sent."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import tiny_models
import torch

from spring_integrations import SpringTokens


class OpenAIServer:
    """Serves a tiny Llama whose vocabulary holds the virtual tokens as `[ref1]…`, greedily."""

    def __init__(self, tokens: SpringTokens) -> None:
        self._model, self._tokenizer = tiny_models.build("llama")
        self._tokenizer.add_tokens([f"[ref{i}]" for i in range(1, len(tokens) + 1)])
        weight = self._model.get_input_embeddings().weight
        weight.data = torch.cat([weight.data, tokens.embeddings])
        self._lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    def answer(self, body: dict[str, Any]) -> str:
        if "messages" in body:
            prompt = self._tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
            inputs = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        else:
            inputs = self._tokenizer(body["prompt"], return_tensors="pt")
        with self._lock, torch.inference_mode():
            out = self._model.generate(
                **inputs, max_new_tokens=body.get("max_tokens", 8), do_sample=False, pad_token_id=0
            )
        return str(self._tokenizer.decode(out[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))


class _Handler(BaseHTTPRequestHandler):
    server_of: OpenAIServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server_of.requests.append(body)
        text, chat = self.server_of.answer(body), "messages" in body
        common = {"id": "1", "created": 0, "model": body["model"]}
        if not body.get("stream"):
            content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            choice = {"index": 0, "finish_reason": "stop", **content}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            kind = "chat.completion" if chat else "text_completion"
            self._send("application/json", json.dumps({**common, "object": kind, "choices": [choice], "usage": usage}))
            return
        events = []
        for i, piece in enumerate([text[:3], text[3:]]):
            content = {"delta": {"role": "assistant", "content": piece}} if chat else {"text": piece}
            choice = {"index": 0, "finish_reason": "stop" if i else None, **content}
            kind = "chat.completion.chunk" if chat else "text_completion"
            events.append("data: " + json.dumps({**common, "object": kind, "choices": [choice]}))
        self._send("text/event-stream", "\n\n".join([*events, "data: [DONE]", ""]))

    def _send(self, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def openai_server(tokens: SpringTokens) -> Iterator[OpenAIServer]:
    """Gives a running server; its `url` is the base of the API."""
    served = OpenAIServer(tokens)
    handler = type("Handler", (_Handler,), {"server_of": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        served.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            http.shutdown()
            thread.join()
