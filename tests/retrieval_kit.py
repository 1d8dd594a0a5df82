"""What the tests of retrieval share: an embedder that counts, passages, a real Chroma server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from spring_integrations import Passage
from spring_integrations.passages import Index
from spring_integrations.retrieval.recipes import Recipe, Similarity


class CountingEmbedder:
    """Letter counts as vectors; remembers how many texts it was given at a time."""

    name = "letters"

    def __init__(self, width: int = 26, similarity: Similarity = "cosine") -> None:
        self.width = width
        self.recipe = Recipe(similarity=similarity)
        self.given: list[int] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.given.append(len(texts))
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [0.1 + text.lower().count(chr(97 + i)) for i in range(self.width)]


def numbered(count: int, start: int = 0) -> list[Passage]:
    """Passages that differ, with ids of their own."""
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    numbers = range(start, start + count)
    return [Passage(" ".join(words[int(c)] for c in str(i)), f"number {i}", str(i)) for i in numbers]


def ids_in(index: Index) -> list[str]:
    """The ids of all passages of an index."""
    return sorted(p.id for p in index.search("one", top=10_000))


class ChromaServer:
    """`chroma run` on a folder, in a process of its own; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; returns when it answers."""
        command = [Path(sys.executable).with_name("chroma"), "run", "--path", self._folder, "--host", "127.0.0.1"]
        self._process = subprocess.Popen(
            [*map(str, command), "--port", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            env=os.environ | {"ANONYMIZED_TELEMETRY": "False"},
        )
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self._process.poll() is None:
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        message = "chroma run does not answer"
        raise AssertionError(message)

    def kill(self) -> None:
        """Kills it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
