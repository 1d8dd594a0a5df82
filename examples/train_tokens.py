"""Training in 10 steps, on a tiny model made here: it shows the path; give a real model for tokens that help."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from spring_integrations import SpringModel, SpringTokens
from spring_integrations.demo.model import model_folder
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.training import ExampleFiles, TrainConfig, train

CAPITALS = {"Peru": "Lima", "Chile": "Santiago", "Ecuador": "Quito", "Bolivia": "Sucre", "Colombia": "Bogotá"}


def tiny_backbone() -> Backbone:
    """Returns a random Llama of two layers with the demo's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    return Backbone(LlamaForCausalLM(config).eval(), tokenizer)


def main() -> None:
    """Trains 8 virtual tokens and loads them."""
    passages = [f"{capital} is the capital of {country}." for country, capital in CAPITALS.items()]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "train.jsonl")
        with data.open("w", encoding="utf-8") as file:
            for country, capital in CAPITALS.items():
                question = f"What is the capital of {country}?"
                record = {"question": question, "target": capital, "ret_passages": passages}
                file.write(json.dumps(record) + "\n")
        config = TrainConfig(n=8, epochs=10, batch_size=5, learning_rate=5e-3, logging_steps=2)
        backbone, out = tiny_backbone(), Path(folder, "tokens")
        train(backbone, ExampleFiles([data]), config, out)
        print("wrote", *sorted(path.name for path in out.iterdir() if path.is_file()))
        model = SpringModel(backbone, tokens=SpringTokens.load(out))
        (answer,) = model.generate(model.prompt(passages, "What is the capital of Peru?"), max_new_tokens=4)
        print(f"{answer.k} virtual tokens, {answer.prompt_tokens} positions")


if __name__ == "__main__":
    main()
