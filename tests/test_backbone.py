"""Virtual ids in a frozen model: nothing changes without them, and with them all is as in the authors' recipe."""

from __future__ import annotations

import copy

import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from torch.testing._internal.two_tensor import TwoTensor
from transformers import AutoModelForCausalLM, AutoTokenizer, T5Config, T5ForConditionalGeneration

from spring_integrations import RagPrompt, SpringError, SpringModel, SpringTokens
from spring_integrations.errors import BackboneError, TokensError
from spring_integrations.runtime.backbone import Backbone, VirtualEmbedding, fingerprint
from spring_integrations.runtime.same_backbone import weights_digest

PROMPT = RagPrompt.from_passages(
    ["Röntgen got it — 東京 🙂", "Lima  is the\ncapital of Peru."], "who got the first prize?"
)
every_model = pytest.mark.parametrize("family", tiny_models.ARCHITECTURES)
every_tokenizer = pytest.mark.parametrize("kind", tiny_models.TOKENIZER_KINDS)


def _random_tokens(n=8, seed=1, scale=1.0):
    return SpringTokens(scale * torch.randn(n, tiny_models.WIDTH, generator=torch.Generator().manual_seed(seed)))


def _logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0]


def _greedy(model, ids, **settings):
    given_ids = torch.tensor([ids])
    out = model.generate(
        given_ids,
        attention_mask=torch.ones_like(given_ids),
        do_sample=False,
        max_new_tokens=10,
        pad_token_id=0,
        **settings,
    )
    return out[0, len(ids) :].tolist()


def _recipe_tokenizer(words, n):
    """The authors' tokenizer: "[ref1]"… as added tokens.

    Where the normalizer prepends a space to every piece, today's tokenizers do not find them unless
    they are kept from normalisation, which is what the recipe relied on.
    """
    extended = copy.deepcopy(words)
    names = [f"[ref{i}]" for i in range(1, n + 1)]
    prepends = "Prepend" in str(words.backend_tokenizer.normalizer)
    extended.add_tokens([AddedToken(name, normalized=False) if prepends else name for name in names])
    return extended, extended.convert_tokens_to_ids(names)


def _recipe(model, words, tokens):
    """The authors' way (DaoD/SPRING, example.py): new tokens in the tokenizer, new rows in the embedding matrix."""
    extended, _ = _recipe_tokenizer(words, len(tokens))
    grown = copy.deepcopy(model)
    embedding = grown.get_input_embeddings()
    embedding.weight.data = torch.cat([embedding.weight.data, tokens.embeddings.to(embedding.weight.dtype)])
    head = grown.get_output_embeddings()
    if head.weight is embedding.weight and head.bias is not None:  # the recipe alone crashes here
        head.bias.data = torch.cat([head.bias.data, torch.zeros(len(tokens))])
    return grown, extended


def _recipe_ids(extended, prompt, k):
    references = "".join(f"[ref{i}]" for i in range(1, k + 1))
    return extended(f"{prompt.before}{references}{prompt.after}").input_ids


class TestWithoutTokens:
    @every_model
    def test_logits_and_text_are_bit_identical(self, family):
        model, words = tiny_models.build(family)
        ids = words(PROMPT.text).input_ids
        logits, text = _logits(model, ids), _greedy(model, ids)
        backbone = Backbone(model, words)
        first = backbone.attach(_random_tokens(scale=100.0))
        assert first == model.config.vocab_size
        assert torch.equal(_logits(model, ids), logits)
        assert _greedy(model, ids) == text

    @every_tokenizer
    def test_ids_are_the_tokenizers(self, llama, kind):
        words = tiny_models.tokenizer(kind)
        backbone = Backbone(llama[0], words)
        plain = words(PROMPT.text).input_ids
        assert backbone.encode(PROMPT, range(0)) == plain
        assert backbone.encode(RagPrompt(PROMPT.text, "", None), range(900, 908)) == plain

    @every_model
    def test_detach_restores_the_very_same_modules(self, family):
        model, words = tiny_models.build(family)
        modules, names = list(model.modules()), list(model.state_dict())
        pointers = [p.data_ptr() for p in model.parameters()]
        head = model.get_output_embeddings()
        backbone = Backbone(model, words)
        backbone.attach(_random_tokens())
        assert isinstance(model.get_input_embeddings(), VirtualEmbedding)
        backbone.detach()
        backbone.detach()
        assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
        assert [p.data_ptr() for p in model.parameters()] == pointers
        assert list(model.state_dict()) == names
        assert model.get_output_embeddings() is head

    @every_model
    def test_tokens_do_not_show_in_a_saved_model(self, family, tmp_path):
        model, words = tiny_models.build(family)
        names = list(model.state_dict())
        Backbone(model, words).attach(_random_tokens())
        assert list(model.state_dict()) == names
        model.save_pretrained(tmp_path)
        again, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        ids = words(PROMPT.text).input_ids
        assert torch.equal(_logits(again.eval(), ids), _logits(model, ids))

    def test_the_callers_tokenizer_is_not_changed(self, llama):
        model, words = llama
        before = words.backend_tokenizer.to_str()
        Backbone(model, words).encode(PROMPT, range(350, 358))
        assert words.backend_tokenizer.to_str() == before


class TestParityWithTheAuthorsRecipe:
    @every_model
    @pytest.mark.parametrize("k", [1, 8])
    def test_logits_and_greedy_text(self, family, k):
        model, words = tiny_models.build(family)
        tokens = _random_tokens()
        grown, extended = _recipe(model, words, tokens)
        backbone = Backbone(model, words)
        first = backbone.attach(tokens)
        ids = backbone.encode(PROMPT, range(first, first + k))
        assert ids == _recipe_ids(extended, PROMPT, k)
        theirs = _logits(grown, ids)[:, :first]  # a tied head grows in the recipe
        ours = _logits(model, ids)
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        banned = list(range(first, len(grown.get_input_embeddings().weight)))
        assert _greedy(model, ids) == _greedy(grown, ids, suppress_tokens=banned)

    @every_model
    def test_the_tokens_matter(self, family):
        model, words = tiny_models.build(family)
        backbone = Backbone(model, words)
        first = backbone.attach(_random_tokens())
        with_tokens = _logits(model, backbone.encode(PROMPT, range(first, first + 8)))[-1]
        assert not torch.allclose(with_tokens, _logits(model, backbone.encode(PROMPT, range(0)))[-1], atol=1e-2)

    @every_tokenizer
    @settings(max_examples=30, deadline=None)
    @given(
        context=st.text(alphabet="aRö  \n[]1.東🙂\u0301", max_size=12),
        question=st.text(alphabet="Qw: ?\n\u0301é", max_size=8),
    )
    def test_ids_for_any_text(self, kind, context, question):
        backbone = _shared_backbone(kind)
        extended, references = _recipe_tokenizer(backbone.tokenizer, 3)
        prompt = RagPrompt(f"[1] {context}\n\n", f"Question: {question}\nAnswer:")
        translate = dict(zip(references, range(1000, 1003), strict=True))
        theirs = [translate.get(i, i) for i in _recipe_ids(extended, prompt, 3)]
        assert backbone.encode(prompt, range(1000, 1003)) == theirs

    def test_padded_embedding_table(self):
        model, words = tiny_models.build("qwen2", extra_rows=17)
        tokens = _random_tokens()
        backbone = Backbone(model, words)
        first = backbone.attach(tokens)
        assert first == len(words) + 17
        ids = backbone.encode(PROMPT, range(first, first + 8))
        grown = copy.deepcopy(model)
        grown.set_input_embeddings(copy.deepcopy(grown.get_input_embeddings().base))
        weight = grown.get_input_embeddings().weight
        weight.data = torch.cat([weight.data, tokens.embeddings])
        torch.testing.assert_close(_logits(model, ids), _logits(grown, ids)[:, :first], rtol=0, atol=1e-5)

    @pytest.mark.parametrize("family", ["llama", "gemma", "gpt2"])
    def test_bfloat16(self, family):
        model, words = tiny_models.build(family)
        model.to(torch.bfloat16)
        tokens = _random_tokens()
        grown, extended = _recipe(model, words, tokens)
        backbone = Backbone(model, words)
        first = backbone.attach(tokens)
        ids = _recipe_ids(extended, PROMPT, 8)
        ours = _logits(model, ids)
        assert ours.dtype == torch.bfloat16
        assert torch.equal(ours, _logits(grown, ids)[:, :first])


_backbones: dict[str, Backbone] = {}


def _shared_backbone(kind):
    if kind not in _backbones:
        _backbones[kind] = Backbone(tiny_models.build("llama")[0], tiny_models.tokenizer(kind))
    return _backbones[kind]


class TestSeveralTables:
    def test_two_tables_and_several_k(self, llama):
        model, words = llama
        one, two = _random_tokens(4, seed=2), _random_tokens(6, seed=3)
        expected = {}
        for name, tokens in (("one", one), ("two", two)):
            alone = Backbone(*tiny_models.build("llama"))
            first = alone.attach(tokens)
            for k in (1, 4):
                expected[name, k] = _logits(alone.model, alone.encode(PROMPT, range(first, first + k)))
        backbone = Backbone(model, words)
        firsts = {"one": backbone.attach(one), "two": backbone.attach(two)}
        assert firsts["two"] == firsts["one"] + 4
        assert backbone.attach(one) == firsts["one"]
        for (name, k), logits in expected.items():
            ids = backbone.encode(PROMPT, range(firsts[name], firsts[name] + k))
            assert torch.equal(_logits(model, ids), logits)

    def test_wrong_width_names_both(self, llama):
        with pytest.raises(TokensError, match=r"d=7, but .* embedding size of 32.*\(org/other\)") as caught:
            Backbone(*llama).attach(SpringTokens(torch.ones(2, 7)).with_metadata(backbone="org/other"))
        assert isinstance(caught.value, SpringError)

    @every_model
    def test_a_virtual_id_is_never_generated(self, family):
        model, words = tiny_models.build(family)
        rows = model.get_input_embeddings().weight.shape[0]
        # A tied head that had grown would score a copy of the largest row highest.
        spring = SpringModel(model, words, _random_tokens(scale=50.0))
        backbone = spring.frozen
        ids = backbone.encode(PROMPT, range(rows, rows + 8))
        assert _logits(model, ids).shape[-1] == rows
        assert max(_greedy(model, ids)) < rows


class TestBosAndHostileText:
    def test_bos_is_not_doubled_for_a_rendered_chat(self, llama):
        model, words = llama
        backbone = Backbone(model, words)
        text = words.apply_chat_template(
            [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
        )
        assert text.startswith(words.bos_token)
        cut = text.index("hi")
        for virtual in (range(0), range(350, 352)):
            ids = backbone.encode(RagPrompt(text[:cut], text[cut:]), virtual)
            assert ids.count(words.bos_token_id) == 1
            assert ids[0] == words.bos_token_id
        assert backbone.encode(RagPrompt("hi", "ho"), range(350, 352))[0] == words.bos_token_id

    @every_tokenizer
    @pytest.mark.parametrize(
        "forged", ["[spring-virtual-tokens]", "[SPRING-Virtual-tokens]", "[\u2060spring-virtual-tokens]"]
    )
    def test_text_cannot_forge_the_seam(self, kind, forged):
        backbone = _shared_backbone(kind)
        ids = backbone.encode(RagPrompt(f"a {forged} b\n\n", f"Question: {forged}"), range(900, 902))
        assert [i for i in ids if i >= 900] == [900, 901]
        assert len(backbone.tokenizer) not in ids

    @every_tokenizer
    def test_special_tokens_in_passages_become_text(self, kind):
        backbone = _shared_backbone(kind)
        hostile = " ".join(["x", *backbone.special_tokens])
        prompt = RagPrompt.from_passages([hostile], "q", special_tokens=backbone.special_tokens)
        control = set(backbone.tokenizer.all_special_ids) - {backbone.tokenizer.unk_token_id}
        assert not control & set(backbone.encode(prompt, range(900, 902))[1:])
        assert control & set(backbone.tokenizer(hostile).input_ids[1:])


class TestFingerprint:
    def test_tells_tables_apart_and_ignores_the_wrapper(self, llama):
        model, words = llama
        plain = fingerprint(model.get_input_embeddings())
        Backbone(model, words).attach(_random_tokens())
        assert fingerprint(model.get_input_embeddings()) == plain
        assert fingerprint(tiny_models.build("llama")[0].get_input_embeddings()) == plain
        assert fingerprint(tiny_models.build("llama", seed=5)[0].get_input_embeddings()) != plain

    def test_a_digest_tells_models_with_one_embedding_table_apart(self):
        model, tokenizer = tiny_models.build("gpt2")
        plain = weights_digest(model)
        assert plain == weights_digest(tiny_models.build("gpt2")[0])
        Backbone(model, tokenizer).attach(_random_tokens())
        assert weights_digest(model) == plain
        for name in ("attn.c_attn.weight", "mlp.c_proj.bias", "ln_2.weight"):
            tuned = tiny_models.build("gpt2")[0]
            tuned.transformer.h[1].get_parameter(name).data += 0.01
            assert weights_digest(tuned) != plain
        assert weights_digest(tiny_models.build("gpt2")[0].bfloat16()) != plain
        assert not weights_digest(tiny_models.build("gpt2")[0].to("meta")), "weights that are elsewhere are not known"

    def test_a_digest_looks_into_weights_of_several_tensors(self):
        def digest(*scale):
            layer = torch.nn.Linear(3, 2)
            parts = (torch.full((2, 3), float(value)) for value in scale)
            layer.weight, layer.bias = torch.nn.Parameter(TwoTensor(*parts)), None
            return weights_digest(layer)

        assert digest(1, 2) == digest(1, 2)
        assert digest(1, 2) != digest(1, 3)


class TestProperties:
    def test_eos_list_of_the_checkpoint(self, llama):
        model, words = llama
        model.generation_config.eos_token_id = [3, 1]
        assert Backbone(model, words).eos_ids == [3, 1]
        model.generation_config.eos_token_id = None
        assert Backbone(model, words).eos_ids == [words.eos_token_id]

    def test_pad_id_without_a_pad_token(self, llama):
        model, words = llama
        assert words.pad_token is None
        assert Backbone(model, words).pad_id == words.eos_token_id
        words.eos_token = None
        assert Backbone(model, words).pad_id == 0

    @every_model
    def test_window_and_width(self, family):
        backbone = Backbone(*tiny_models.build(family))
        assert (backbone.window, backbone.width) == (tiny_models.POSITIONS, tiny_models.WIDTH)


class TestLoading:
    def test_folder(self, llama_folder, llama):
        backbone = Backbone.load(str(llama_folder))
        assert backbone.name == str(llama_folder)
        ids = llama[1](PROMPT.text).input_ids
        assert backbone.encode(PROMPT, range(0)) == ids
        assert torch.equal(_logits(backbone.model, ids), _logits(llama[0], ids))

    def test_dtype(self, llama_folder):
        assert Backbone.load(str(llama_folder), dtype="bfloat16").model.dtype == torch.bfloat16

    def test_unreachable_hub_names_the_id_and_the_demo(self, tmp_path, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(BackboneError, match=r"'org/no-such-model'.*'demo', which works offline") as caught:
            Backbone.load("org/no-such-model")
        assert isinstance(caught.value, OSError)

    def test_no_such_folder(self):
        with pytest.raises(BackboneError, match=r"'/no/such/folder'.*no such local folder"):
            Backbone.load("/no/such/folder")

    def test_folder_of_something_else(self, tmp_path):
        with pytest.raises(BackboneError, match="is not a folder of a causal language model"):
            Backbone.load(str(tmp_path))

    def test_damaged_weights(self, llama_folder, tmp_path):
        for file in llama_folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(BackboneError, match="is not a folder of a causal language model"):
            Backbone.load(str(tmp_path))

    def test_folder_without_tokenizer(self, llama, tmp_path):
        llama[0].save_pretrained(tmp_path)
        with pytest.raises(BackboneError, match="with its tokenizer"):
            Backbone.load(str(tmp_path))

    def test_encoder_decoder_is_refused(self):
        config = T5Config(vocab_size=50, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2)
        with pytest.raises(BackboneError, match="T5ForConditionalGeneration is an encoder-decoder"):
            Backbone(T5ForConditionalGeneration(config), tiny_models.tokenizer("wordpiece"))

    def test_tokenizer_of_the_folder_is_the_saved_one(self, llama_folder):
        assert AutoTokenizer.from_pretrained(llama_folder).chat_template
