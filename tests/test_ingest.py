"""Bulk ingest into a Chroma folder: overlapped, idempotent, and gone on with after whatever stopped it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import struct
import threading
from dataclasses import replace

import chromadb.api.client
import chromadb.errors
import numpy as np
import pytest
from chromadb.api.models.Collection import Collection
from killed_ingest import (
    COUNT,
    LIMIT,
    WIDE_COUNT,
    WideEmbedder,
    ingest,
    ingest_on_a_full_disk,
    ingest_wide_on_a_full_disk,
    peak_of_ingest,
    received,
    started,
)
from retrieval_kit import CountingEmbedder, ids_in, numbered
from tiny_encoders import save_sentence_bert

from spring_integrations import Passage
from spring_integrations.errors import DataError, SettingsError, StorageError
from spring_integrations.retrieval import BM25Index, PassageStore, SentenceEmbedder
from spring_integrations.retrieval import ingest as bulk
from spring_integrations.retrieval.disk import cut_vectors


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(chromadb.api.client.Client, "get_max_batch_size", lambda self: 5)


def watch_writes(monkeypatch, before):
    """Calls `before(number)` ahead of every write; returns the sizes of the writes that were done."""
    upsert, written = Collection.upsert, []
    numbers = iter(range(1, 1000))

    def watched(self, ids, **columns):
        before(next(numbers))
        upsert(self, ids, **columns)
        written.append(len(ids))

    monkeypatch.setattr(Collection, "upsert", watched)
    return written


def test_adding_twice_adds_and_embeds_nothing(tmp_path):
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path, embedder)
    passages = [*numbered(7), Passage("no id of its own")]
    assert store.add([*passages, passages[0], passages[7]]) == 8
    embedder.given.clear()
    assert store.add(passages) == 0
    assert store.add([*passages, Passage("a new one")]) == 1
    assert embedder.given == [1]
    assert len(store) == store.count() == 9


def test_an_id_with_other_content_is_an_error_or_replaced(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    store.add(numbered(3))
    other = Passage("something else", id="1", metadata={"page": 2})
    with pytest.raises(DataError, match="two passages have the id '1' but other content: 'something else'"):
        store.add([other])
    with pytest.raises(SettingsError, match="on_conflict='ignore' is not one of 'error', 'replace'"):
        store.add([other], on_conflict="ignore")
    assert store.add([other], on_conflict="replace") == 1
    assert {p.id: p.text for p in store.search("something", top=9)}["1"] == "something else"
    assert store.count() == 3


def test_a_replaced_passage_keeps_none_of_its_metadata(tmp_path):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    store.add([Passage("one", id="1", metadata={"url": "http://old", "page": 3, "title": "old"}), Passage("0", id="0")])
    other = Passage("something else", id="1", metadata={"author": "me"})
    assert store.add([other, Passage("new", id="2")], on_conflict="replace") == 2
    assert {p.id: p.metadata for p in store.passages()} == {"0": {}, "1": {"author": "me"}, "2": {}}


def test_other_metadata_replace_and_are_else_left_out(tmp_path):
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path, embedder)
    before = [
        Passage("one", id="1", metadata={"page": 1, "none": None, "tags": ("a", 2), "content_hash": "x"}),
        Passage("two", "a title", "2", metadata={"title": "mine", 5: {"six": 7}}),
        Passage("three"),
    ]
    after = [replace(before[0], metadata={"page": 2}), before[1], replace(before[2], metadata={"page": 3})]
    assert store.add(before) == 3
    for on_conflict in ("error", "keep"):
        assert store.add(after, on_conflict=on_conflict) == 0
    embedder.given.clear()
    for on_conflict in ("replace", "error"):
        assert store.add(before, on_conflict=on_conflict) == 0
    assert embedder.given == []
    assert store.add(after, on_conflict="replace") == 2
    assert store.add(after, on_conflict="replace") == 0
    assert {p.text: p.metadata.get("page") for p in store.passages()} == {"one": 2, "two": None, "three": 3}


def test_writes_respect_the_batch_limit_and_progress_ends_at_the_total(tmp_path, monkeypatch, small_batches):
    written = watch_writes(monkeypatch, lambda number: None)
    store = PassageStore.open(tmp_path, CountingEmbedder())
    seen, again = [], []
    assert store.add(iter(numbered(13)), progress=seen.append) == 13
    assert written == [5, 5, 3]
    assert store.count() == 13
    store.add(numbered(13), progress=again.append)
    assert written == [5, 5, 3]
    for counts in (seen, again):
        assert counts == sorted(counts)
        assert counts[-1] == 13


def test_progress_moves_within_one_write(tmp_path):
    seen = []
    PassageStore.open(tmp_path, CountingEmbedder()).add(numbered(100), progress=seen.append)
    assert len(set(seen)) >= 3


def test_the_next_batch_is_embedded_while_the_last_is_written(tmp_path, monkeypatch, small_batches):
    second_embedded, first_written = threading.Event(), threading.Event()

    class Watched(CountingEmbedder):
        def embed_documents(self, texts):
            if len(self.given) == 1:
                assert not first_written.is_set()
                second_embedded.set()
            return super().embed_documents(texts)

    def write(number):
        if number == 1:
            assert second_embedded.wait(30)  # would never come if batches were embedded after the write
            first_written.set()

    written = watch_writes(monkeypatch, write)
    PassageStore.open(tmp_path, Watched()).add(numbered(10))
    assert written == [5, 5]


@pytest.mark.parametrize("on_conflict", ["error", "replace"])
def test_what_is_still_being_written_counts_as_in(tmp_path, monkeypatch, small_batches, on_conflict):
    monkeypatch.setattr(bulk, "READ_AHEAD", 1)
    contents, reads, looked_up = PassageStore.contents, [], threading.Event()

    def watched(self, *given):
        found = contents(self, *given)
        reads.append(len(found))
        if len(reads) == 2:
            looked_up.set()
        return found

    monkeypatch.setattr(PassageStore, "contents", watched)
    watch_writes(monkeypatch, lambda number: looked_up.wait(30))
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path, embedder)
    passages = [*numbered(5), *numbered(4), Passage("changed", id="3")]
    if on_conflict == "error":
        with pytest.raises(DataError, match="'3' but other content"):
            store.add(passages)
    else:
        assert store.add(passages, on_conflict="replace") == 6
    assert reads == [0, 0]  # the first batch was not yet in when the second was looked up
    assert sum(embedder.given) == (5 if on_conflict == "error" else 6)
    assert {p.id: p.text for p in store.search("x", top=9)}["3"] == ("three" if on_conflict == "error" else "changed")
    assert ids_in(store) == list("01234")


def test_a_write_that_fails_surfaces_and_loses_nothing(tmp_path, monkeypatch, small_batches):
    def fail(number):
        if number == 2:
            message = "no such segment"
            raise chromadb.errors.InternalError(message)

    watch_writes(monkeypatch, fail)
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path, embedder)
    with pytest.raises(DataError, match="refuses 5 passages for the collection 'passages': no such segment"):
        store.add(numbered(20))
    assert store.count() == 5
    embedder.given.clear()
    assert store.add(numbered(20)) == 15
    assert sum(embedder.given) == 15
    assert ids_in(store) == sorted(p.id for p in numbered(20))


def test_an_embedder_or_a_source_that_fails_leaves_what_came_before(tmp_path, small_batches):
    def broken():
        yield from numbered(12)
        message = "line 13 is no JSON"
        raise DataError(message)

    store = PassageStore.open(tmp_path, CountingEmbedder())
    with pytest.raises(DataError, match="line 13"):
        store.add(broken())
    assert store.count() == 10
    assert store.add(numbered(12)) == 2


@pytest.mark.parametrize("make", [BM25Index.build, PassageStore.open])
def test_a_conflict_may_keep_what_is_in_and_says_so(tmp_path, caplog, make):
    passages = [*numbered(7), Passage("changed", id="3"), Passage("changed again", id="3"), Passage("new", id="8")]
    if make is BM25Index.build:
        index = BM25Index.build(passages, on_conflict="keep").extended([Passage("x", id="5")], on_conflict="keep")
    else:
        index = PassageStore.open(tmp_path, CountingEmbedder())
        assert index.add(passages, on_conflict="keep") == 8
        assert index.add([Passage("x", id="5")], on_conflict="keep") == 0
    assert {p.id: p.text for p in index.search("three", top=1)} == {"3": "three"}
    assert "left out 2 passages whose ids are those of others that are in already, the first of them '3'" in caplog.text
    assert "left out 1 passages" in caplog.text
    assert len(index) == 8


@pytest.mark.parametrize("on_conflict", ["error", "replace"])
def test_a_conflict_among_what_is_read_ahead(tmp_path, small_batches, on_conflict):
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path, embedder)
    passages = [*numbered(7), Passage("changed", id="3")]
    if on_conflict == "error":
        with pytest.raises(DataError, match="'3' but other content"):
            store.add(passages)
    else:
        assert store.add(passages, on_conflict="replace") == 7
    assert store.count() == sum(embedder.given) == (5 if on_conflict == "error" else 7)
    assert {p.id: p.text for p in store.search("x", top=9)}["3"] == ("three" if on_conflict == "error" else "changed")


def test_like_lengths_are_embedded_together_and_give_the_same_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "BATCH", 32)
    encoder = save_sentence_bert(tmp_path / "encoder")
    embedder = SentenceEmbedder(str(encoder), query_prompt="", passage_prompt="", batch_size=4)
    batches, embed = [], embedder.embed_documents
    monkeypatch.setattr(embedder, "embed_documents", lambda texts: batches.append(texts) or embed(texts))
    words = random.Random(0)
    # As many characters, but other numbers of tokens: the tokenizer makes one of each character and none of a space.
    texts = [f"{i:03} " + ("a" * words.randint(1, 80)).ljust(80) + "." for i in range(256)]
    store = PassageStore.open(tmp_path / "index", embedder)
    store.add(Passage(text, id=text) for text in texts)
    lengths = [embedder.lengths(batch) for batch in batches]
    assert sorted(text for batch in batches for text in batch) == texts
    assert sum(max(row) * len(row) for row in lengths) < 1.02 * sum(map(sum, lengths))
    found = store.client.get_collection(store.name).get(include=["embeddings", "documents"])
    alone = np.array([embed([text])[0] for text in found["documents"]])
    assert np.abs(found["embeddings"] - alone).max() < 1e-5


@pytest.mark.parametrize(
    ("point", "number"),
    [
        ("progress", 130),
        ("embedded", 1),
        ("embedded", 14),
        ("writing", 1),
        ("writing", 3),
        ("meanwhile", 1),
        ("meanwhile", 6),
        ("meanwhile", 15),
        ("written", 2),
        ("written", 5),
    ],
)
def test_killed_anywhere_and_run_again_nothing_is_lost_embedded_again_or_twice(tmp_path, point, number):
    log = tmp_path / "log"
    process, connection = started(ingest, tmp_path / "index", log, point, number)
    for done in received(connection):
        if point == "progress" and done >= number:
            process.kill()
            break
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    notes = [line.split() for line in log.read_text().splitlines()]
    written = sum(int(count) for what, count in notes if what == "written")
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path / "index", embedder)
    before = store.count()
    assert before >= written
    assert store.add(numbered(COUNT)) == sum(embedder.given) == COUNT - before
    assert ids_in(store) == sorted(p.id for p in numbered(COUNT))
    embedded = sum(int(count) for what, count in notes if what == "embedded")
    assert embedded - before <= 2 * LIMIT  # what a kill can cost


@pytest.mark.parametrize("size", [200_000, 600_000])
def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path, size):
    process, connection = started(ingest_on_a_full_disk, tmp_path, size)
    ((kind, message),) = received(connection)
    process.join(60)
    assert kind == StorageError.__name__
    assert "the disk is full" in message
    assert "make room" in message
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path, embedder)
    before = store.count()
    assert (before > 0) == (size > 400_000)
    assert before < COUNT
    assert store.add(numbered(COUNT)) == sum(embedder.given) == COUNT - before
    assert ids_in(store) == sorted(p.id for p in numbered(COUNT))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_room_is_made_sure_of_before_anything_is_written(tmp_path, monkeypatch, code):
    store = PassageStore.open(tmp_path, CountingEmbedder())
    assert store.add(numbered(9)) == 9

    def full(*_arguments):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(StorageError, match=rf"the disk is full.*{os.strerror(code)}.*make room"):
            store.add(numbered(COUNT))
    assert store.count() == len(store.search("one", top=99)) == 9
    assert store.add(numbered(COUNT)) == COUNT - 9
    monkeypatch.delattr(os, "posix_fallocate")  # as on Windows
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(StorageError, match="the disk is full"):
        store.add(numbered(1, COUNT))


@pytest.mark.parametrize("looks", [True, False], ids=["looks for room", "does not"])
def test_vectors_that_a_full_disk_cuts_short_are_never_passed_over_in_silence(tmp_path, looks):
    size = 14_000_000 if looks else 7_000_000  # the latter is between the database with all passages and its vectors
    process, connection = started(ingest_wide_on_a_full_disk, tmp_path, size, looks)
    ((written, kind, message),) = received(connection)
    process.join(60)
    assert (written, kind) == (WIDE_COUNT // 2, StorageError.__name__)
    assert "the disk is full" in message
    if looks:
        store = PassageStore.open(tmp_path, WideEmbedder())
        assert store.count() == written
        assert len(store.search("one", top=10_000)) > 0.99 * written
    else:  # Chroma itself reports nothing, and its index is damaged
        assert "data_level0.bin" in message
        with pytest.raises(DataError, match=r"are damaged: '.*data_level0\.bin' is too short"):
            PassageStore.open(tmp_path, WideEmbedder())


@pytest.mark.parametrize("name", ["header.bin", "data_level0.bin", "length.bin", "link_lists.bin"])
def test_an_index_with_a_file_cut_short_says_which(tmp_path, name):
    folder = tmp_path / "a-segment"
    folder.mkdir()
    (folder / "header.bin").write_bytes(struct.pack("=iQQQQ", 1, 0, 20, 10, 8).ljust(100))
    for other, size in (("data_level0.bin", 80), ("length.bin", 40), ("link_lists.bin", 40)):
        (folder / other).write_bytes(bytes(size))
    assert cut_vectors(tmp_path) is None
    os.truncate(folder / name, 35)
    assert cut_vectors(tmp_path) == folder / name


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    peaks = {}
    for count in (1_000, 4_000):
        process, connection = started(peak_of_ingest, tmp_path / str(count), count)
        ((peaks[count], stored),) = received(connection)
        process.join(60)
        assert stored == count
    assert peaks[4_000] < 1.3 * peaks[1_000]


def test_it_persists_over_processes(tmp_path):
    process, connection = started(ingest, tmp_path / "index", tmp_path / "log", "nowhere", 0)
    assert max(received(connection)) == COUNT
    process.join(60)
    assert process.exitcode == 0
    embedder = CountingEmbedder()
    store = PassageStore.open(tmp_path / "index", embedder)
    assert (store.add(numbered(COUNT)), embedder.given, store.count()) == (0, [], COUNT)
