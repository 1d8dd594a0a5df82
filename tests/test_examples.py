"""Every example runs and says what it is there to show."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from spring_integrations.prompts import remove_marks

FOLDER = Path(__file__).parents[1] / "examples"
# What each prints, as a regular expression; an example without a line here is an error. How good the answers of the
# model "demo" are is tested elsewhere.
PRINTS = {
    "context_cache": r"1 computed, 5 found",
    "evaluate_chain": r"k = 0: .*\nk = 50: .*'em'",
    "langchain_lcel": r"\w.*\n(.|\n)*k = 10: .*\w",
    "langchain_retrieval_qa": r"\w.*\nfrom: The stethoscope",
    "langgraph_rag": r"\w.* \(k = 50\)",
    "llama_index_chat_engine": r"\w.*\n.*\w",
    "llama_index_query_engine": r"\w.*\n0\.\d\d The stethoscope",
    "marginalised_decoding": r"rag-token: .*\w(.|\n)*% from Lake Tanganyika",
    "own_corpus": r"hybrid: medicine\.html\nbm25: tanganyika\.txt",
    "train_tokens": r"wrote .*spring_tokens\.safetensors.*\n8 virtual tokens",
}


@pytest.mark.filterwarnings("ignore:.*RetrievalQA")
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_example_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    out = remove_marks(capsys.readouterr().out)
    assert re.search(PRINTS[path.stem], out), out


def test_examples_are_short() -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in FOLDER.glob("*.py")}
    assert set(PRINTS) == {name.removesuffix(".py") for name in lengths}
    assert {name: lines for name, lines in lengths.items() if not 20 <= lines <= 60} == {}
