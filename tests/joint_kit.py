"""A corpus of codes, a tiny reader that was taught to copy a passage's code, and tiny query encoders.

Every passage holds the code of one city. The reader, a real Llama of 2 layers, gives the code of the
passage before it, whatever the question: only the answers tell which passage is right.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from spring_integrations import Passage, RagPrompt
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import Example, TrainingResult
from spring_integrations.training.joint import JointConfig, VectorIndex, train_joint

WIDTH = 32
CITIES = (
    "lima", "oslo", "rome", "cairo", "delhi", "tokyo", "paris", "quito",
    "accra", "dakar", "sofia", "minsk", "hanoi", "bern", "kyiv", "riga",
)  # fmt: skip
CODES = (
    "ash", "bay", "cedar", "elm", "fir", "gum", "holly", "ivy",
    "jute", "kelp", "larch", "maple", "nut", "oak", "pine", "reed",
)  # fmt: skip
ASKING = ("what is the code of {}", "give me the code of {}", "which code does {} have")
HELD_OUT = "please tell which code belongs to {}"
STEPS = 150

_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
_TEXTS = (*CITIES, *CODES, *ASKING, HELD_OUT, "[1] The code of is . Question: Answer:")


def words() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of whole words."""
    split = pre_tokenizers.Whitespace()
    known = dict.fromkeys(word for text in _TEXTS for word, _ in split.pre_tokenize_str(text))
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*_SPECIAL, *known])}, unk_token="<unk>"))
    core.pre_tokenizer = split
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    named = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), _SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=64, **named)


def passage(city: str, code: str) -> Passage:
    return Passage(f"The code of {city} is {code} .", id=city)


def corpus() -> list[Passage]:
    """Returns a passage for every city; the code of city i is code i."""
    return [passage(city, code) for city, code in zip(CITIES, CODES, strict=True)]


def questions(*asking: str) -> list[Example]:
    """Returns a question about every city in each wording, with its answer and without passages."""
    pairs = list(zip(CITIES, CODES, strict=True))
    return [Example(text.format(city), (code,), ()) for text in asking for city, code in pairs]


def index(width: int = WIDTH) -> VectorIndex:
    """Returns the corpus with vectors of a passage encoder that knows nothing of the query encoder."""
    vectors = torch.randn(len(CITIES), width, generator=torch.Generator().manual_seed(1))
    return VectorIndex(corpus(), vectors, "cosine")


@functools.cache
def _reader() -> dict[str, Any]:
    tokenizer = words()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(reader_config())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    rng = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows = []
        for city, code, asked in torch.randint(len(CITIES), (32, 3), generator=rng).tolist():
            prompt = RagPrompt.from_passages([passage(CITIES[city], CODES[code])], ASKING[0].format(CITIES[asked]))
            rows.append([*tokenizer(f"{prompt.text} {CODES[code]}").input_ids, 3])
        ids = torch.tensor(rows)
        labels = ids.clone()
        labels[:, :-2] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def reader_config() -> LlamaConfig:
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    return LlamaConfig(vocab_size=len(words()), max_position_embeddings=64, initializer_range=0.1, **sizes, **ids)


def reader() -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Returns a fresh copy of the taught reader and its tokenizer."""
    model = LlamaForCausalLM(reader_config())
    model.load_state_dict(_reader())
    return model.eval(), words()


def encoder(folder: Path, width: int = WIDTH) -> SentenceTransformer:
    """Returns a tiny random sentence-transformers model: BERT and mean pooling; `folder` takes its parts."""
    tokenizer = words()
    sizes = {"hidden_size": width, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(
            BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.02, **sizes)
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformer = Transformer(str(folder))
    return SentenceTransformer(modules=[transformer, Pooling(width)], device="cpu")


CONFIG = JointConfig(
    n=4, num_passages=3, epochs=2, batch_size=4, learning_rate=0.01, encoder_learning_rate=1e-3,
    save_steps=2, logging_steps=1, max_new_tokens=3,
)  # fmt: skip
EXAMPLES = questions(ASKING[0])[:8]


def run(folder: Path, **changes) -> TrainingResult:
    """Trains the taught reader and a fresh encoder; `folder` takes the result, and its sibling the encoder."""
    fresh = encoder(folder.with_name(folder.name + "-bert"))
    config = dataclasses.replace(CONFIG, **changes)
    return train_joint(Backbone(*reader()), fresh, index(), EXAMPLES, config, folder)
