from __future__ import annotations

import asyncio
import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode
from tiny_encoders import WIDTH, raw_vectors, save_bert, save_sentence_bert, words

from spring_integrations import Passage
from spring_integrations.errors import BackboneError, SettingsError
from spring_integrations.langchain import MiniLMEmbeddings, SpringEmbeddings
from spring_integrations.llama_index import SpringEmbedding
from spring_integrations.retrieval import DPREmbedder, MiniLMEmbedder, PassageStore, SentenceEmbedder, load_embedder

TEXTS = ["a boat on the lake", "tax", "the ship sails far away and comes back in the evening"]
BGE_QUERY = "Represent this sentence for searching relevant passages: "
INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
# folder name: query prompt, passage prompt, pooling, similarity; as on the models' cards
CARDS = {
    "e5-base-v2": ("query: ", "passage: ", "mean", "cosine"),
    "e5-large": ("query: ", "passage: ", "mean", "cosine"),
    "multilingual-e5-large-instruct": (INSTRUCT, "", "mean", "cosine"),
    "bge-base-en-v1.5": (BGE_QUERY, "", "cls", "cosine"),
    "all-MiniLM-L6-v2": ("", "", "mean", "cosine"),
    "multi-qa-mpnet-base-dot-v1": ("", "", "cls", "ip"),
    "contriever-msmarco": ("", "", "mean", "ip"),
}


@pytest.fixture(scope="module")
def e5_folder(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("e5") / "e5-base-v2")


@pytest.fixture(scope="module")
def e5(e5_folder):
    return SentenceEmbedder(str(e5_folder), device="cpu")


# --- known models ---


@pytest.mark.parametrize("saved_pooling", [None, "mean", "cls"])
@pytest.mark.parametrize("name", CARDS)
def test_a_known_model_gets_the_prompts_pooling_and_similarity_of_its_card(tmp_path, name, saved_pooling):
    query_prompt, passage_prompt, pooling, similarity = CARDS[name]
    folder = tmp_path / name
    if saved_pooling:
        wrong = {"query": "wrong: ", "document": "wrong: "}
        save_sentence_bert(folder, pooling=saved_pooling, prompts=wrong, default_prompt_name="query")
    else:
        save_bert(folder)
    embedder = SentenceEmbedder(str(folder), device="cpu", batch_size=2)
    assert (embedder.similarity, embedder.dimension) == (similarity, WIDTH)
    unit = similarity == "cosine"
    for found, prompt in (
        (embedder.embed_documents(TEXTS), passage_prompt),
        (embedder.embed_queries(TEXTS), query_prompt),
        ([embedder.embed_query(text) for text in TEXTS], query_prompt),
    ):
        expected = raw_vectors(folder, [prompt + text for text in TEXTS], pooling, unit=unit)
        assert np.allclose(found, expected, atol=1e-5)
    assert embedder.embed_documents([]) == embedder.embed_queries([]) == []


@hypothesis_settings(max_examples=25, deadline=None)
@given(text=st.text(max_size=40))
def test_a_prompt_that_the_caller_wrote_is_not_written_again(e5, e5_folder, text):
    once = raw_vectors(e5_folder, [f"query: {text}", f"passage: {text}"], "mean", unit=True)
    written = [e5.embed_query(f"query: {text}"), *e5.embed_documents([f"passage: {text}"])]
    assert np.allclose(written, once, atol=1e-5)
    bare = [e5.embed_query(text), *e5.embed_documents([text])]
    assert np.allclose(bare, once, atol=1e-5)


@pytest.mark.parametrize(
    ("model_id", "wrong"),
    [
        ("intfloat/e5-base-v2", {"query_prompt": ""}),
        ("intfloat/e5-large", {"query_prompt": "query: ", "passage_prompt": "query: "}),
        ("someone/e5-small-v2", {"pooling": "cls"}),
        ("BAAI/bge-large-en-v1.5", {"query_prompt": "query: ", "passage_prompt": "passage: "}),
        ("sentence-transformers/all-MiniLM-L6-v2", {"similarity": "ip"}),
        ("/somewhere/else", {"like": "intfloat/e5-base", "passage_prompt": ""}),
    ],
)
def test_a_known_model_cannot_be_given_other_settings(model_id, wrong):
    with pytest.raises(SettingsError, match="was trained with"):
        SentenceEmbedder(model_id, **wrong)


def test_a_known_model_may_be_given_its_own_settings(e5, e5_folder):
    same = SentenceEmbedder(str(e5_folder), query_prompt="query: ", passage_prompt="passage: ", device="cpu")
    assert same.embed_query("a") == e5.embed_query("a")


@pytest.mark.parametrize(
    "place",
    ["hub/models--intfloat--e5-base-v2/snapshots/0123abc", "models/E5-Base-V2", "intfloat--e5-base-v2", "e5-base-v2/"],
)
def test_copies_and_the_hubs_cache_are_recognised(tmp_path, place, e5):
    save_bert(tmp_path / place)
    embedder = SentenceEmbedder(f"{tmp_path}/{place}", device="cpu")
    assert embedder.recipe == e5.recipe


def test_a_model_below_the_folder_of_a_known_one_is_not_taken_for_it(tmp_path):
    folder = save_bert(tmp_path / "e5-base-v2" / "tuned")
    with pytest.raises(SettingsError, match="not known"):
        SentenceEmbedder(str(folder), device="cpu")


# --- other models ---


def test_an_unknown_model_without_prompts_is_an_error_that_says_what_to_do(tmp_path):
    folder = save_sentence_bert(tmp_path / "mine")
    for given_ in ({}, {"query_prompt": "q: "}, {"passage_prompt": ""}):
        with pytest.raises(SettingsError, match=r"by SentenceEmbedder with query_prompt= .* or like=ID") as caught:
            SentenceEmbedder(str(folder), device="cpu", **given_)
        assert "intfloat/e5-base-v2" in str(caught.value)


def test_an_unknown_model_takes_the_prompts_it_is_given(tmp_path):
    folder = save_sentence_bert(tmp_path / "mine", similarity_fn_name="dot", prompts={"query": "other: "})
    prompts = {"query_prompt": "ask: ", "passage_prompt": ""}
    embedder = SentenceEmbedder(str(folder), device="cpu", pooling="cls", similarity="l2", **prompts)
    assert embedder.similarity == "l2"
    assert np.allclose(embedder.embed_queries(["x"]), raw_vectors(folder, ["ask: x"], "cls", unit=False), atol=1e-5)
    assert np.allclose(embedder.embed_documents(["x"]), raw_vectors(folder, ["x"], "cls", unit=False), atol=1e-5)


@pytest.mark.parametrize("passage_name", ["document", "passage"])
@pytest.mark.parametrize(("saved", "similarity"), [("cosine", "cosine"), ("dot", "ip"), ("euclidean", "l2")])
def test_a_model_that_brings_prompts_and_similarity_uses_them(tmp_path, passage_name, saved, similarity):
    prompts = {"query": "find: ", passage_name: "text: "}
    folder = save_sentence_bert(tmp_path / "mine", pooling="cls", prompts=prompts, similarity_fn_name=saved)
    embedder = SentenceEmbedder(str(folder), device="cpu")
    unit = similarity == "cosine"
    assert embedder.similarity == similarity
    assert np.allclose(embedder.embed_queries(["x"]), raw_vectors(folder, ["find: x"], "cls", unit=unit), atol=1e-5)
    assert np.allclose(embedder.embed_documents(["x"]), raw_vectors(folder, ["text: x"], "cls", unit=unit), atol=1e-5)


def test_like_names_the_model_that_it_was_made_from(tmp_path):
    folder = save_bert(tmp_path / "mine")
    embedder = SentenceEmbedder(str(folder), like="BAAI/bge-small-en-v1.5", device="cpu")
    expected = raw_vectors(folder, [f"{BGE_QUERY}x"], "cls", unit=True)
    assert np.allclose(embedder.embed_queries(["x"]), expected, atol=1e-5)
    with pytest.raises(SettingsError, match="like='mine' is not a known model; known are BAAI/"):
        SentenceEmbedder(str(folder), like="mine")


def test_a_model_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(BackboneError, match=r"'intfloat/e5-large-v2' .*no such folder"):
        SentenceEmbedder("intfloat/e5-large-v2")
    (tmp_path / "e5-small").mkdir()
    with pytest.raises(BackboneError, match="e5-small"):
        SentenceEmbedder(str(tmp_path / "e5-small"))


# --- precision and threads ---


def test_bfloat16_changes_the_vectors_a_little(e5, e5_folder):
    half = SentenceEmbedder(str(e5_folder), dtype="bfloat16", device="cpu")
    full, rough = np.array(e5.embed_documents(TEXTS)), np.array(half.embed_documents(TEXTS))
    assert 0 < np.abs(full - rough).max() < 0.1
    assert np.sum(full * rough, axis=1).min() > 0.99
    assert np.allclose(np.linalg.norm(rough, axis=1), 1, atol=1e-6)


def test_eight_threads_get_what_one_gets(e5):
    texts = [f"{'long ' * (i % 7)}text {i}" for i in range(64)]
    alone = [e5.embed_query(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert np.allclose(list(pool.map(e5.embed_query, texts)), alone, atol=1e-6)


# --- DPR ---


@pytest.fixture(scope="module", params=[0, 16], ids=["unprojected", "projected"])
def dpr_folders(tmp_path_factory, request):
    root = tmp_path_factory.mktemp("dpr")
    size = {"projection_dim": request.param}
    question = save_bert(root / "question", "DPR", "DPRQuestionEncoder", **size)
    passage = save_bert(root / "passage", "DPR", "DPRContextEncoder", seed=1, **size)
    return question, passage


def pooled(kind, folder, *texts):
    model = getattr(transformers, kind).from_pretrained(folder)
    inputs = words()(*texts, return_tensors="pt")
    inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])  # as in the authors' training code
    with torch.inference_mode():
        return model(**inputs).pooler_output[0].numpy(), inputs["input_ids"].tolist()


def test_dpr_equals_the_pooler_output_of_its_two_encoders(dpr_folders):
    question, passage = dpr_folders
    embedder = DPREmbedder(str(question), str(passage), device="cpu", batch_size=2)
    asked = [pooled("DPRQuestionEncoder", question, text)[0] for text in TEXTS]
    held = [pooled("DPRContextEncoder", passage, text)[0] for text in TEXTS]
    assert np.allclose(embedder.embed_queries(TEXTS), asked, atol=1e-5)
    assert np.allclose(embedder.embed_query(TEXTS[1]), asked[1], atol=1e-5)
    assert np.allclose(embedder.embed_documents(TEXTS), held, atol=1e-5)
    assert not np.allclose(asked, held, atol=0.1)
    assert (embedder.dimension, embedder.similarity) == (len(asked[0]), "ip")


def test_dpr_is_loaded_in_the_type_that_is_asked_for(dpr_folders, monkeypatch):
    monkeypatch.setattr("spring_integrations.retrieval.dpr.DPREmbedder", partial(DPREmbedder, *map(str, dpr_folders)))
    full, half = (load_embedder("dpr", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    for embed in ("embed_queries", "embed_documents"):
        exact, rough = (np.array(getattr(embedder, embed)(TEXTS)) for embedder in (full, half))
        assert 0 < np.abs(exact - rough).max() < 0.5


def test_dpr_reads_title_and_text_as_two_segments(dpr_folders, tmp_path):
    question, passage = dpr_folders
    embedder = DPREmbedder(str(question), str(passage), device="cpu")
    pair, ids = pooled("DPRContextEncoder", passage, "Lake Titicaca", "It has reeds.")
    assert ids == words()(f"Lake Titicaca{embedder.recipe.title_separator}It has reeds.", return_tensors="pt")[
        "input_ids"
    ].tolist()  # fmt: skip
    store = PassageStore.open(tmp_path, embedder)
    store.add([Passage("It has reeds.", "Lake Titicaca")])
    asked = pooled("DPRQuestionEncoder", question, "reeds?")[0]
    assert store.search("reeds?", top=1)[0].score == pytest.approx(float(asked @ pair), rel=1e-4)


def test_swapped_or_missing_dpr_encoders_are_an_error(dpr_folders, tmp_path):
    question, passage = map(str, dpr_folders)
    with pytest.raises(BackboneError, match=r"holds \['DPRContextEncoder'\], not a DPRQuestionEncoder"):
        DPREmbedder(passage, question)
    bert = str(save_bert(tmp_path / "bert"))
    with pytest.raises(BackboneError, match=r"'BertModel'.* not a DPRContextEncoder"):
        DPREmbedder(question, bert)
    with pytest.raises(BackboneError, match="gone"):
        DPREmbedder(question, str(tmp_path / "gone"))


# --- by name ---


def test_an_embedder_is_loaded_by_short_name_hub_id_or_folder(e5, e5_folder, monkeypatch):
    assert load_embedder("minilm", device="cpu").name == "all-MiniLM-L6-v2"
    assert load_embedder(str(e5_folder), device="cpu").recipe == e5.recipe
    with pytest.raises(BackboneError, match="'intfloat/e5-large-v2'"):
        load_embedder("e5-large-v2")
    with pytest.raises(BackboneError, match="'facebook/dpr-question_encoder-single-nq-base'"):
        load_embedder("dpr")
    with pytest.raises(SettingsError, match="like='gone'"):
        SentenceEmbedder("x", like="gone")
    monkeypatch.chdir(e5_folder.parent)
    assert load_embedder("e5-base-v2", device="cpu").embed_query("a") == e5.embed_query("a")


def test_minilm_gives_unit_vectors_that_know_meaning():
    minilm = MiniLMEmbedder(device="cpu")
    boat, ship, tax = np.array(minilm.embed_documents(["a boat on the sea", "the ship sails", "income tax law"]))
    assert boat.shape == (384,)
    assert np.allclose(np.linalg.norm([boat, ship, tax], axis=1), 1, atol=1e-5)
    assert boat @ ship > boat @ tax + 0.2
    assert np.allclose(minilm.embed_query("a boat on the sea"), boat, atol=1e-5)


# --- in the frameworks ---


def test_a_langchain_store_embeds_passages_and_questions_with_their_own_prompts(e5, e5_folder):
    store = InMemoryVectorStore(SpringEmbeddings(str(e5_folder)))
    store.add_texts(TEXTS)
    (found,) = store.similarity_search_with_score(TEXTS[1], k=1)
    asked, *held = raw_vectors(e5_folder, [f"query: {TEXTS[1]}", *(f"passage: {t}" for t in TEXTS)], "mean", unit=True)
    best = int(np.argmax(held @ asked))
    assert found[0].page_content == TEXTS[best]
    assert found[1] == pytest.approx(float(held[best] @ asked), abs=1e-5)
    assert isinstance(MiniLMEmbeddings(device="cpu").embedder, MiniLMEmbedder)


@pytest.mark.parametrize("use_async", [False, True])
async def test_a_llama_index_embeds_passages_and_questions_with_their_own_prompts(e5, e5_folder, use_async):
    embedding = SpringEmbedding(e5)
    assert (embedding.model_name, embedding.embed_batch_size) == (str(e5_folder), e5.batch_size)
    nodes = [TextNode(text=text, id_=str(i)) for i, text in enumerate(TEXTS)]
    # LlamaIndex runs a loop of its own in it.
    index = await asyncio.to_thread(VectorStoreIndex, nodes, embed_model=embedding, use_async=use_async)
    retriever = index.as_retriever(similarity_top_k=3)
    found = await retriever.aretrieve(TEXTS[1]) if use_async else retriever.retrieve(TEXTS[1])
    asked, *held = raw_vectors(e5_folder, [f"query: {TEXTS[1]}", *(f"passage: {t}" for t in TEXTS)], "mean", unit=True)
    assert {node.node_id: node.score for node in found} == pytest.approx(
        {str(i): float(vector @ asked) for i, vector in enumerate(held)}, abs=1e-5
    )


async def test_llama_index_async_embedding_equals_sync(e5):
    embedding = SpringEmbedding(e5)
    assert await embedding.aget_query_embedding("x") == embedding.get_query_embedding("x") == e5.embed_query("x")
    batch = await embedding.aget_text_embedding_batch(TEXTS)
    assert np.allclose(batch, embedding.get_text_embedding_batch(TEXTS), atol=1e-6)
    assert np.allclose([await embedding.aget_text_embedding(t) for t in TEXTS], batch, atol=1e-5)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("make", [SpringEmbeddings, SpringEmbedding, MiniLMEmbeddings])
def test_copies_share_the_weights(e5, make, copied):
    made = make() if make is MiniLMEmbeddings else make(e5)
    twin = copied(made)
    assert type(twin) is make
    assert twin is not made
    inner = "_embedder" if make is SpringEmbedding else "embedder"
    assert getattr(twin, inner) is getattr(made, inner)


def test_pickles_hold_what_an_embedder_was_made_with(e5_folder, dpr_folders):
    wanted = SentenceEmbedder(str(e5_folder), batch_size=3, device="cpu")
    for made in (wanted, DPREmbedder(*map(str, dpr_folders), device="cpu"), MiniLMEmbedder(batch_size=3)):
        again = pickle.loads(pickle.dumps(made))
        assert (type(again), again.batch_size, again.name) == (type(made), made.batch_size, made.name)
        assert again.embed_query("a") == made.embed_query("a")
    for made in (SpringEmbeddings(wanted), SpringEmbeddings(str(e5_folder)), MiniLMEmbeddings(batch_size=3)):
        data = pickle.dumps(made)
        assert len(data) < 1_000
        again = pickle.loads(data)
        assert (type(again), again.batch_size) == (type(made), made.batch_size)
        assert again.embed_query("a") == made.embed_query("a")


def test_a_llama_index_embedding_is_pickled_and_written_as_a_dictionary(e5, e5_folder):
    made = SpringEmbedding(str(e5_folder), embed_batch_size=7)
    for again in (pickle.loads(pickle.dumps(made)), SpringEmbedding.from_dict(made.to_dict())):
        assert again.to_dict() == made.to_dict()
        assert again.get_query_embedding("a") == made.get_query_embedding("a")
        assert again.embed_batch_size == 7
    assert pickle.loads(pickle.dumps(SpringEmbedding(e5))).get_query_embedding("a") == e5.embed_query("a")


def test_what_a_llama_index_embedding_cannot_be_rebuilt_of_is_said(e5):
    with pytest.raises(SettingsError, match=r"no embedder: give one, or a name to load it by"):
        SpringEmbedding.from_dict(SpringEmbedding(e5).to_dict())

    class Local(MiniLMEmbedder):
        """Its class has no place where pickle finds it."""

    with pytest.raises(SettingsError, match="a Local cannot be pickled, nor what holds it; make the embedder by name"):
        pickle.dumps(SpringEmbedding(Local()))
