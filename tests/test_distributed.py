"""On a cluster of two nodes everything is as one process leaves it, whatever dies on the way."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import chromadb.api.client
import cluster_kit
import numpy as np
import pytest
import torch
from cluster_kit import COUNT, LIMIT, READERS, NotingEmbedder, embedding_processes, noted
from evaluation_kit import QUESTIONS, index
from langchain_core.vectorstores import InMemoryVectorStore
from retrieval_kit import ChromaServer, CountingEmbedder, numbered
from tiny_encoders import save_sentence_bert
from typer.testing import CliRunner

import spring_integrations.cli.evaluate  # registers the command
import spring_integrations.cli.ingest  # noqa: F401
from spring_integrations import Passage, SpringModel
from spring_integrations.cli import app
from spring_integrations.distributed import (
    RayCluster,
    answer_distributed,
    build_shards_distributed,
    ingest_distributed,
    systems_of,
)
from spring_integrations.errors import DataError, IndexUnreachableError, MissingExtraError, SettingsError
from spring_integrations.evaluation import EvaluationConfig, Question, evaluate
from spring_integrations.langchain import PassageVectorStore
from spring_integrations.retrieval import BM25Shards, IndexFolder, PassageStore, iter_passages

pytestmark = pytest.mark.xdist_group("ray")  # one cluster for all
TWO = RayCluster(workers=2)
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray cluster of two nodes with a CPU each, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    own = {"PYTHONPATH": f"{TESTS}:{TESTS.parent}", "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    own["RAY_TQDM_PATCH_PRINT"] = "0"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        node = {"num_cpus": 1, "object_store_memory": 80 << 20}
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster.address
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def small_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromadb.api.client.Client, "get_max_batch_size", lambda self: LIMIT)


def held(store: PassageStore) -> dict[str, tuple[Any, ...]]:
    """Everything in a store, by key, the vectors last."""
    found = store.client.get_collection(store.name).get(include=["documents", "metadatas", "embeddings"])
    rows = zip(found["documents"], found["metadatas"], found["embeddings"], strict=True)
    return dict(zip(found["ids"], rows, strict=True))


def assert_equal(one: PassageStore, other: PassageStore) -> None:
    first, second = held(one), held(other)
    assert first.keys() == second.keys()
    for key, (text, metadata, vector) in first.items():
        assert second[key][:2] == (text, metadata)
        np.testing.assert_allclose(vector, second[key][2], atol=1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> PassageStore:
    """What one process makes of READERS."""
    store = PassageStore.open(tmp_path_factory.mktemp("alone"), CountingEmbedder())
    store.add(p for read in READERS for p in read())
    return store


def test_the_store_is_that_of_one_process_and_nothing_is_embedded_twice(address, alone, tmp_path, small_writes):
    log, seen, kept = tmp_path / "log", [], []
    store = PassageStore.open(tmp_path / "store", CountingEmbedder())
    make = partial(NotingEmbedder, log)
    note = lambda *numbers: seen.append(numbers)  # noqa: E731
    assert ingest_distributed(READERS, store, make, cluster=TWO, progress=note, keep=kept.append) == COUNT
    assert_equal(store, alone)
    assert noted(log) == COUNT
    assert seen == [(done, COUNT) for done in range(0, COUNT + 1, LIMIT)]
    assert kept == [p for read in READERS for p in read()]
    more = (*READERS, partial(numbered, 3, COUNT - 1))
    assert ingest_distributed(more, store, make, cluster=TWO) == 2
    assert noted(log) == COUNT + 2
    assert store.add(p for read in more for p in read()) == 0
    assert store.count() == COUNT + 2


def test_work_that_no_machine_has_room_for_says_what_it_waits_for(address, caplog):
    for cluster, needs in ((RayCluster(gpus=1), "threads=1 CPUs and gpus=1"), (RayCluster(threads=2), "threads=2")):
        with cluster.connected():
            pass
        assert needs in caplog.messages[-1]
        assert "(1 CPUs, 0 GPUs; 1 CPUs, 0 GPUs): the work waits until one joins" in caplog.messages[-1]
    with TWO.connected():
        pass
    assert len(caplog.messages) == 2


def test_workers_share_a_stream_that_is_short(address, tmp_path, small_writes):
    store = PassageStore.open(tmp_path / "store", CountingEmbedder())
    few, make = [partial(numbered, 4 * LIMIT)], partial(NotingEmbedder, tmp_path / "log", seconds=1.5)
    assert ingest_distributed(few, store, make, cluster=TWO) == 4 * LIMIT
    assert len(embedding_processes(tmp_path / "log")) == 2


def test_a_worker_is_killed_and_nothing_is_lost_or_twice(address, alone, tmp_path, small_writes):
    log, died = tmp_path / "log", tmp_path / "died"
    store = PassageStore.open(tmp_path / "store", CountingEmbedder())
    assert ingest_distributed(READERS, store, partial(NotingEmbedder, log, died), cluster=TWO) == COUNT
    assert died.exists()
    assert_equal(store, alone)
    assert COUNT < noted(log) <= COUNT + 2 * LIMIT


def test_the_stores_server_is_killed_and_the_next_run_goes_on(address, alone, tmp_path, small_writes):
    log, server = tmp_path / "log", ChromaServer(tmp_path / "server")
    server.start()
    try:
        store = PassageStore.open(server.address, CountingEmbedder())
        kill = lambda done, _total: server.kill() if done == 2 * LIMIT else None  # noqa: E731
        with pytest.raises(IndexUnreachableError, match="the server does not answer"):
            ingest_distributed(READERS, store, CountingEmbedder, cluster=TWO, progress=kill)
        server.start()
        before = store.count()
        assert 2 * LIMIT <= before < COUNT
        assert ingest_distributed(READERS, store, partial(NotingEmbedder, log), cluster=TWO) == COUNT - before
        assert noted(log) == COUNT - before
        assert_equal(store, alone)
    finally:
        server.kill()


def test_the_driver_is_killed_and_the_next_one_goes_on(address, alone, tmp_path, small_writes):
    log, folder = tmp_path / "log", tmp_path / "store"
    command = [sys.executable, str(TESTS / "cluster_kit.py"), address, str(folder), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        for _, _ in zip(range(2), driver.stdout, strict=False):
            pass
        driver.kill()
    assert driver.returncode == -signal.SIGKILL
    store, again = PassageStore.open(folder, CountingEmbedder()), tmp_path / "again"
    before = store.count()
    assert LIMIT <= before < COUNT
    assert ingest_distributed(READERS, store, partial(NotingEmbedder, again), cluster=TWO) == COUNT - before
    assert noted(again) == COUNT - before
    assert_equal(store, alone)


def test_an_id_with_other_content_is_an_error_or_the_last_one_stays(address, tmp_path, small_writes):
    mine, other = Passage("mine", id="1"), Passage("another", id="1")
    stores = [PassageStore.open(tmp_path / name, CountingEmbedder()) for name in ("one", "cluster")]
    for store in stores:
        store.add([mine])
    given = [other, *numbered(LIMIT, 10), mine]  # in two blocks
    make = partial(NotingEmbedder, tmp_path / "log")
    with pytest.raises(DataError, match="two passages have the id '1'"):
        ingest_distributed([partial(tuple, given)], stores[1], make)
    added = [
        stores[0].add(given, on_conflict="replace"),
        ingest_distributed([partial(tuple, given)], stores[1], make, on_conflict="replace"),
    ]
    assert_equal(*stores)
    assert min(added) > LIMIT
    paged, before = [replace(p, metadata={"page": 1}) for p in given[1:]], noted(tmp_path / "log")
    assert ingest_distributed([partial(tuple, paged)], stores[1], make) == 0
    assert ingest_distributed([partial(tuple, paged)], stores[1], make, on_conflict="replace") == len(paged)
    assert stores[0].add(paged, on_conflict="replace") == len(paged)
    assert_equal(*stores)
    assert noted(tmp_path / "log") == before + len(paged)


def test_what_a_reader_raises_is_raised_before_anything_is_written(address, tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    with pytest.raises(DataError, match="line 2 is broken"):
        ingest_distributed([*READERS, cluster_kit.broken], store, CountingEmbedder)
    assert store.count() == 0


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this package has logged, Ray's own lines left out."""
    found = [r.getMessage() for r in caplog.records if r.name.startswith("spring_integrations")]
    caplog.clear()
    return found


def test_what_readers_leave_out_and_guess_is_said_here_once_and_before_an_error(address, tmp_path, caplog):
    for name, bad in (("a.jsonl", 7), ("b.jsonl", 1)):
        lines = [*(json.dumps({"id": p.id, "text": p.text, "#": 1}) for p in numbered(30, bad)), *["broken"] * bad]
        (tmp_path / name).write_text("\n".join(lines))
    (tmp_path / "c.txt").write_bytes("Käse".encode("latin-1"))
    readers = [partial(iter_passages, path, on_bad_record="skip") for path in sorted(tmp_path.iterdir())]
    with caplog.at_level(logging.WARNING, "spring_integrations"):
        count = len([p for read in readers for p in read()])
        alone = said(caplog)
        store = PassageStore.open(tmp_path / "store", CountingEmbedder())
        kept = ingest_distributed(readers, store, CountingEmbedder, cluster=TWO, on_conflict="keep")
        told = [text for text in said(caplog) if not text.startswith("left out")]
        broken = tmp_path / "d.jsonl"
        broken.write_bytes('{"text": "Käse"}\nbroken'.encode("latin-1"))
        with pytest.raises(DataError, match="line 2"):
            ingest_distributed([partial(iter_passages, broken)], store, CountingEmbedder, cluster=TWO)
    assert (count, kept) == (61, 37)
    assert sorted(told) == sorted(alone)
    assert sum("7 bad records" in text and text.count("a.jsonl, line") == 5 for text in told) == 1
    assert [text.partition(":")[0] for text in said(caplog)] == ["d.jsonl, line 1"]


def test_shards_of_tasks_are_those_of_one_process(address, tmp_path):
    passages = [p for read in READERS for p in read()]
    made = build_shards_distributed(iter(passages), tmp_path / "cluster", size=70, cluster=TWO)
    alone = BM25Shards.build(passages, tmp_path / "one", size=70)
    for query in ("one seven", "number 42", "nine nine"):
        assert made.search(query, 9) == alone.search(query, 9)
    with pytest.raises(DataError, match="two passages have the id '1'"):
        build_shards_distributed([*passages, Passage("x", id="1")], tmp_path / "cluster", size=70)
    assert len(BM25Shards.load(tmp_path / "cluster")) == COUNT


def test_evaluation_is_that_of_one_process_and_goes_on(address, llama_folder, tokens_file, tmp_path, monkeypatch):
    config = EvaluationConfig(str(llama_folder), str(tokens_file), (1, 8), max_new_tokens=4)
    systems = systems_of(config)
    unanswered = Question("q99", "who is without an answer?", (), dataset="capitals")
    asked = {"retrievers": {"bm25": index()}, "passages": (1, 2), "batch_size": 3}
    whole = evaluate([*QUESTIONS, unanswered], systems(), tmp_path / "one", unanswered="keep", **asked)
    folder = tmp_path / "cluster"

    def answer(workers: int = 1) -> dict:
        asking = answer_distributed(
            [*QUESTIONS, unanswered], systems, folder, cluster=RayCluster(workers=workers), **asked
        )
        return asking.predictions()

    assert answer(2) == whole.predictions()
    lines = (folder / "predictions-0.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "predictions-0.jsonl").write_text("".join(lines[:-7]) + lines[-7][:20], encoding="utf-8")
    assert answer() == whole.predictions()
    again = (folder / "predictions-0.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    assert again[: len(lines) - 7] == lines[:-7]
    assert len(again) == len(lines)
    for owner, name in ((RayCluster, "connected"), (SpringModel, "generate")):
        monkeypatch.setattr(owner, name, lambda *_, **__: pytest.fail("a finished run asks nothing"))
    assert answer() == whole.predictions()
    here = evaluate([*QUESTIONS, unanswered], systems(), folder, unanswered="keep", **asked)
    assert here.predictions() == whole.predictions()


def spring_rag(*arguments: object) -> Any:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done


def test_commands_leave_what_they_leave_in_one_process(address, llama_folder, tokens_file, tmp_path):
    encoder = save_sentence_bert(tmp_path / "encoder", prompts={"query": "q: ", "document": "d: "})
    docs, questions = tmp_path / "docs.jsonl", tmp_path / "questions.jsonl"
    docs.write_text("".join(json.dumps({"id": p.id, "title": p.title, "text": p.text}) + "\n" for p in numbered(40)))
    (tmp_path / "long.txt").write_text(" ".join(p.text for p in numbered(300)))
    rows = [
        {"id": q.id, "question": q.text, "answers": q.answers, "passage": q.gold_passages[0].text} for q in QUESTIONS
    ]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stores = []
    for engine, options in (("local", ()), ("ray", ("--workers", 1))):  # by words: two, below
        folder = tmp_path / engine
        ingest = ("ingest", docs, tmp_path / "long.txt", "--index", folder, "--embedder", encoder)
        done = spring_rag(*ingest, "--engine", engine, *options)
        stores.append(IndexFolder.load(folder))
        total = stores[-1].open("dense").count()
        assert f"{total} of {total} passages are new" in done.stdout
        evaluated = ("evaluate", "--data", questions, "--model", llama_folder, "--tokens", tokens_file, "--k", 8)
        spring_rag(*evaluated, "--max-new-tokens", 3, "--out", folder / "run", "--engine", engine, *options)
    local, ray = stores
    assert_equal(local.open("dense"), ray.open("dense"))
    assert local.open("bm25").search("lake", 9) == ray.open("bm25").search("lake", 9)
    assert (tmp_path / "local/run/report.md").read_text() == (tmp_path / "ray/run/report.md").read_text()


def test_a_command_says_here_what_workers_leave_out(address, tmp_path, caplog):
    encoder = save_sentence_bert(tmp_path / "encoder", prompts={"query": "q: ", "document": "d: "})
    dump = tmp_path / "dump.jsonl"
    rows = [{"id": p.id, "text": p.text} for p in [*numbered(4), Passage("other", id="3")]]
    dump.write_text("\n".join([*map(json.dumps, rows), "broken"]), encoding="utf-8")
    ingest = ("ingest", dump, "--index", tmp_path / "index", "--retriever", "dense", "--embedder", encoder)
    assert "4 of 4 passages are new" in spring_rag(*ingest, "--bad-records", "skip", "--engine", "ray").stdout
    (text,) = said(caplog)
    assert text.startswith(f"2 bad records of {str(dump)!r} are left out, 4 passages are read; dump.jsonl, line 5:")
    assert "the id '3' is that of another passage in dump.jsonl, line 4; dump.jsonl, line 6: not JSON" in text


def test_commands_find_by_words_what_they_find_in_one_process(address, llama_folder, tmp_path):
    dump, more = tmp_path / "dump.jsonl", tmp_path / "more.jsonl"
    for file, passages in ((dump, numbered(90)), (more, [Passage("eight changed", id="8"), *numbered(9, 90)])):
        file.write_text("\n".join(json.dumps({"id": p.id, "title": p.title, "text": p.text}) for p in passages))
    ray = ("--engine", "ray", "--workers", 2)
    folders = {tmp_path / "local": ((), ()), tmp_path / "ray": (ray, ray), tmp_path / "mixed": (ray, ())}
    for folder, (first, then) in folders.items():
        ingest = ("ingest", dump, "--index", folder, "--retriever", "bm25", "--on-conflict", "replace")
        assert "90 of 90 passages are new" in spring_rag(*ingest, *first).stdout
        assert "9 of 10 passages are new" in spring_rag(*ingest[:1], more, *ingest[2:], *then).stdout
    local, *others = (IndexFolder.load(folder).open() for folder in folders)
    assert len(list((tmp_path / "ray/bm25").glob("*/0*"))) == 2
    for other in others:
        for query in ("one seven", "number 42", "changed", "nine nine"):
            found, wanted = ({p.id: p.score for p in index.search(query, 99)} for index in (other, local))
            assert found == pytest.approx(wanted, rel=1e-5)
    asked = spring_rag("ask", "changed?", "--index", tmp_path / "ray", "--model", llama_folder, "--max-new-tokens", 3)
    assert "eight changed" in asked.stdout


def test_what_cannot_be_is_refused(tmp_path, monkeypatch):
    for name, value in (("workers", 0), ("threads", 0), ("gpus", -1), ("gpus", float("inf")), ("gpus", "1")):
        with pytest.raises(SettingsError, match=f"{name}={value!r}"):
            RayCluster(**{name: value})
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    two, message = RayCluster(workers=2, gpus=0.6), "gpus=0.6 each need 2 GPUs, but this machine has 1"
    with monkeypatch.context() as alone, pytest.raises(SettingsError, match=message):
        alone.setattr("ray.is_initialized", lambda: False)
        two.connected().__enter__()
    embeds_itself = PassageVectorStore(InMemoryVectorStore(CountingEmbedder()))
    with pytest.raises(SettingsError, match="PassageVectorStore embeds what it writes"):
        ingest_distributed(READERS, embeds_itself, CountingEmbedder)
    done = CliRunner().invoke(app, ["ingest", str(tmp_path), "--index", str(tmp_path / "i"), "--workers", "2"])
    assert (done.exit_code, "--workers is an option of --engine ray" in done.stderr) == (2, True)
    on_gpus = ["ingest", str(tmp_path), "--index", str(tmp_path / "i"), "--retriever", "bm25", "--engine", "ray"]
    done = CliRunner().invoke(app, [*on_gpus, "--gpus", "1"])
    assert (done.exit_code, "--gpus 1 has nothing to do for --retriever bm25" in done.stderr) == (2, True)
    with pytest.raises(SettingsError, match="has no vectors"):
        IndexFolder(tmp_path / "i", "bm25").add_by(lambda *_: 0)
    with pytest.raises(SettingsError, match="'hybrid' has vectors"):
        IndexFolder(tmp_path / "i").shard_by(lambda *_: None, [])
    gone = ["ingest", str(tmp_path / "gone"), "--index", str(tmp_path / "i"), "--engine", "ray"]
    done = CliRunner().invoke(app, gone)
    assert (done.exit_code, "gone" in done.stderr, (tmp_path / "i").exists()) == (2, True, False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"spring-integrations\[ray\]"), RayCluster().connected():
        pass
