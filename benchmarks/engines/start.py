"""Starts a serving engine with a model and its virtual tokens on a free port, and ends it.

`make engines` installs what llama.cpp needs into .engines, and `make .engines/vllm/.installed` the CPU build of vLLM;
the environment variable SPRING_ENGINES names another folder. A server that runs already is used where its address is
named: SPRING_VLLM_URL=http://localhost:8000/v1, and SPRING_TRANSFORMERS_URL and SPRING_LLAMACPP_URL in the same way.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ENGINES = ("transformers", "llamacpp", "vllm")
READY_SECONDS = 300
WINDOW = 4096


@dataclass(frozen=True)
class Server:
    """A running server: what it is, where it listens, and what it calls its model."""

    engine: str
    url: str
    model: str


def folder() -> Path:
    """Returns where engines are installed."""
    return Path(os.environ.get("SPRING_ENGINES", HERE.parents[1] / ".engines"))


def address(engine: str) -> str | None:
    """Returns the address of a server that runs already."""
    return os.environ.get(f"SPRING_{engine.upper()}_URL")


def missing(engine: str) -> str | None:
    """Returns what an engine needs that is not here, or None if it can be started."""
    if engine == "transformers" or address(engine) or (folder() / engine / ".installed").exists():
        return None
    made = "make engines" if engine == "llamacpp" else f"make .engines/{engine}/.installed"
    return f"{engine} is not installed; install it with: {made}; or name a server with SPRING_{engine.upper()}_URL"


def command(engine: str, port: int, *, model: str, tokens: str | None, merged: Path, dtype: str) -> list[str]:
    """Returns how an engine is started.

    Args:
        engine: one of ENGINES.
        port: where it is to listen.
        model: the backbone, for `spring-rag serve`.
        tokens: its virtual tokens; None for those that it brings.
        merged: their export, with a GGUF file of that type for llama.cpp.
        dtype: "float32" or "bfloat16".
    """
    if engine == "transformers":
        given = ("--model", model, *(("--tokens", tokens) if tokens else ()), "--host", "127.0.0.1")
        serve = (sys.executable, "-m", "spring_integrations.cli", "serve")
        return [*serve, *given, "--port", str(port), "--", "--dtype", dtype]
    programs = folder() / engine / "bin"
    if engine == "llamacpp":
        file = merged / f"model-{'f32' if dtype == 'float32' else 'bf16'}.gguf"
        return [str(programs / "python"), str(HERE / "llamacpp.py"), str(file), str(port)]
    options = ("--enforce-eager", "--enable-prefix-caching", "--enable-prompt-embeds", "--dtype", dtype)
    named = ("--served-model-name", Path(model).name, "--port", str(port), "--max-model-len", str(WINDOW))
    serve = ("-m", "vllm.entrypoints.openai.api_server")  # `vllm serve` of the CPU build lacks its metadata
    return [str(programs / "python"), *serve, "--model", str(merged), *named, *options]


@contextmanager
def running(engine: str, log: Path, **started_with: str | Path | None) -> Iterator[Server]:
    """Yields a server that answers, and ends it.

    Args:
        engine: one of ENGINES.
        log: file for what it prints.
        started_with: the arguments of `command`.

    Raises:
        RuntimeError: if it ends, or does not answer in time; the message has the end of its log.
    """
    name = Path(str(started_with["model"])).name
    if url := address(engine):  # transformers serve lists what is in the hub's cache, not what it serves
        yield Server(engine, url, name if engine == "transformers" else _first_model(url))
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command(engine, port, **started_with), stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield Server(engine, f"http://127.0.0.1:{port}/v1", name)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)
    end = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-20:])
    msg = f"the server does not answer at {url}:\n{end}"
    raise RuntimeError(msg)


def _first_model(url: str) -> str:
    with urllib.request.urlopen(f"{url}/models", timeout=30) as response:
        return str(json.load(response)["data"][0]["id"])
