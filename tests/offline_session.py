"""What a user does with local models and files, in a process that notes every try to reach a network.

python offline_session.py FOLDER      # prints a line for each try, and "done" at the end
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from pathlib import Path

TRIES: list[str] = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


def no_network(event: str, args: tuple) -> None:
    """Refuses what leaves the process, addresses on this machine too; an audit hook cannot be taken off again."""
    if event in WATCHED and not (isinstance(args[0], socket.socket) and args[0].family == socket.AF_UNIX):
        TRIES.append(f"{event} {args[1:] if isinstance(args[0], socket.socket) else args[:2]}")
        message = f"no network here: {TRIES[-1]}"
        raise OSError(message)


def spring_rag(*arguments: object) -> None:
    from spring_integrations.cli import app

    assert not app([str(argument) for argument in arguments], standalone_mode=False), arguments[0]


def ask_in_both_frameworks() -> None:
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from llama_index.core import VectorStoreIndex
    from llama_index.core.schema import TextNode

    from spring_integrations import SpringModel, langchain, llama_index
    from spring_integrations.demo import load_demo
    from spring_integrations.retrieval import load_embedder

    model = SpringModel.from_pretrained("demo")
    passages = load_demo().passages[:2]

    class Fixed(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: object) -> list[Document]:
            return [Document(page_content=p.text, metadata={"title": p.title}) for p in passages]

    question = load_demo().questions[0].question
    found = langchain.SpringRetriever(retriever=Fixed()).invoke(question)
    prompt = langchain.SPRING_PROMPT.format(context="\n\n".join(d.page_content for d in found), question=question)
    assert langchain.SpringHFLLM(model=model, max_new_tokens=4).invoke(prompt)
    embedding = llama_index.SpringEmbedding(embedder=load_embedder("minilm"))
    index = VectorStoreIndex([TextNode(text=p.text) for p in passages], embed_model=embedding)
    engine = index.as_query_engine(
        llm=llama_index.SpringHFLLM(model=model, max_new_tokens=4),
        node_postprocessors=[llama_index.SpringNodePostprocessor()],
    )
    assert str(engine.query(question))


def work_on_files(folder: Path) -> None:
    model, data, asked, docs = (folder / name for name in ("model", "train.jsonl", "asked.jsonl", "docs.jsonl"))
    encoder = folder / "e5-small-v2"
    facts = [("capital of Peru", "Lima", "Lima is the capital of Peru."), ("which river", "Rimac", "The Rimac flows.")]
    write(data, [{"question": q, "target": a, "ret_passages": [p]} for q, a, p in facts])
    write(asked, [{"question": q, "answers": [a], "passage": p} for q, a, p in facts])
    write(docs, [{"id": str(i), "text": p} for i, (_, _, p) in enumerate(facts)])
    spring_rag("ingest", docs, "--index", folder / "bm25", "--retriever", "bm25")
    spring_rag("ingest", docs, "--index", folder / "hybrid", "--retriever", "hybrid", "--embedder", encoder)
    trained = ("--model", model, "--epochs", 1, "--batch-size", 2, "--max-new-tokens", 2)
    spring_rag("train", data, "--out", folder / "spring", "--n", 4, "--validation", data, *trained)
    spring_rag("train", data, "--out", folder / "lora", "--method", "lora", *trained)
    spring_rag(
        *("train-joint", data, "--docs", docs, "--embedder", encoder, "--out", folder / "joint", "--n", 4, "--top", 2),
        *trained,
    )
    spring_rag(
        *("evaluate", "--data", asked, "--model", model, "--tokens", folder / "spring", "--max-new-tokens", 2),
        *("--baseline", f"lora={folder / 'lora'}", "--out", folder / "report"),
    )
    spring_rag("export", "--model", model, "--tokens", folder / "spring", "--out", folder / "exported")


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def name_what_is_elsewhere() -> dict[str, bool]:
    """Returns whether the hook saw a try where a user does name a hub id, and a server."""
    from spring_integrations import SpringModel
    from spring_integrations.errors import SpringError
    from spring_integrations.retrieval import PassageStore

    seen = {}
    for name, call in (
        ("hub", lambda: SpringModel.from_pretrained("some-organisation/some-model")),
        ("server", lambda: PassageStore.open("http://localhost:1", object())),
    ):
        before = len(TRIES)
        with contextlib.suppress(SpringError, OSError):
            call()
        seen[name] = len(TRIES) > before
    return seen


if __name__ == "__main__":
    sys.addaudithook(no_network)
    place = Path(sys.argv[1])
    ask_in_both_frameworks()
    work_on_files(place)
    tried = list(TRIES)
    (place / "tries.json").write_text(json.dumps({"tried": tried, "named": name_what_is_elsewhere()}), encoding="utf-8")
