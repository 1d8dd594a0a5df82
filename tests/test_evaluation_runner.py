"""Every system gets every question under every condition, once, however often a run is killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
from evaluation_kit import OTHER, PASSAGES, QUESTIONS, Scripted, index, model_systems

import spring_integrations
from spring_integrations import SpringModel
from spring_integrations.decoding import RagDecoder
from spring_integrations.errors import DataError, SettingsError, StorageError, TokenCountError
from spring_integrations.evaluation.questions import Question
from spring_integrations.evaluation.run_folder import RunFolder
from spring_integrations.evaluation.runner import evaluate
from spring_integrations.evaluation.side_effects import UNUSED_TOKENS, general_ability
from spring_integrations.evaluation.systems import DecodedSystem, PromptedSystem, System, token_systems
from spring_integrations.metrics import METRICS
from spring_integrations.runtime.backbone import Backbone
from spring_integrations.runtime.context_cache import ContextCache

ALL = frozenset(q.id for q in QUESTIONS)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_system_is_asked_under_every_condition(tmp_path) -> None:
    both, closed = Scripted("both", ALL, closed_book=True), Scripted("closed", retrieval=False, closed_book=True)
    run = evaluate(
        QUESTIONS,
        [both, closed],
        tmp_path,
        retrievers={"bm25": index(), "other": index()},
        passages=(1, 3),
        batch_size=3,
    )
    counts = {(p.system, p.retriever, p.passages): 0 for p in run.predictions().values()}
    for p in run.predictions().values():
        counts[p.system, p.retriever, p.passages] += 1
    conditions = [("bm25", 1), ("bm25", 3), ("other", 1), ("other", 3), ("", 0)]
    assert counts == {("both", *c): 7 for c in conditions} | {("closed", "", 0): 7}
    assert sorted(set(both.asked)) == sorted((q.id, n) for q in QUESTIONS for n in (0, 1, 3))
    assert all(
        p.scores == {"em": 1.0, "f1": 1.0, "contains": 1.0} for p in run.predictions().values() if p.system == "both"
    )


def test_predictions_are_the_models_answers_to_the_papers_prompt(spring_llama, tmp_path) -> None:
    run = evaluate(QUESTIONS, model_systems(spring_llama), tmp_path, retrievers={"bm25": index()}, batch_size=3)
    found = index().search_many([q.question for q in QUESTIONS], 3)
    for k, name in ((0, "plain (paper)"), (1, "SPRING, k = 1"), (8, "SPRING, k = 8")):
        for question, passages in zip(QUESTIONS, found, strict=True):
            made = run.predictions()["capitals", question.id, name, "bm25", 3]
            prompt = spring_llama.prompt(passages, question.question)
            assert made.text == spring_llama.generate(prompt, k=k, max_new_tokens=5)[0].text
            assert made.scores == {m: METRICS[m](made.text, question.answers) for m in ("em", "f1", "contains")}
    alone = {q.id: run.predictions()["capitals", q.id, "plain (paper)", "", 0].text for q in QUESTIONS}
    assert alone == {q.id: run.predictions()["capitals", q.id, "SPRING, k = 8", "", 0].text for q in QUESTIONS}


def test_contexts_are_computed_once_for_all_k(spring_llama, tmp_path) -> None:
    cached = spring_llama.with_changes(context_cache=ContextCache())
    plain = evaluate(QUESTIONS, model_systems(spring_llama), tmp_path / "plain", retrievers={"bm25": index()})
    run = evaluate(QUESTIONS, model_systems(cached), tmp_path / "cached", retrievers={"bm25": index()})
    assert run.predictions() == plain.predictions()
    found = {tuple(p.id for p in passages) for passages in run.retrieved("bm25").values()}
    assert cached.context_cache.misses == len(found)


def test_a_run_gives_the_same_files_again(spring_llama, tmp_path) -> None:
    for name in ("one", "other"):
        evaluate(QUESTIONS, model_systems(spring_llama), tmp_path / name, retrievers={"bm25": index()}, batch_size=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_killed_run_goes_on_and_a_finished_one_asks_nothing(tmp_path) -> None:
    def killed(new, total) -> None:
        seen.extend(new)
        if len(seen) >= 6:
            raise KeyboardInterrupt

    arguments = {"retrievers": {"bm25": index()}, "batch_size": 2}
    evaluate(QUESTIONS, [Scripted("a", ALL), Scripted("b")], tmp_path / "whole", **arguments)
    seen: list = []
    with pytest.raises(KeyboardInterrupt):
        evaluate(QUESTIONS, [Scripted("a", ALL), Scripted("b")], tmp_path / "run", progress=killed, **arguments)
    systems = [Scripted("a", ALL), Scripted("b")]
    reported: list = []
    run = evaluate(
        QUESTIONS,
        systems,
        tmp_path / "run",
        progress=lambda new, total: reported.append((len(new), total)),
        **arguments,
    )
    assert len(systems[0].asked) + len(systems[1].asked) == 14 - 6
    assert reported[0] == (6, 14)
    assert sum(count for count, _ in reported) == 14
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    systems = [Scripted("a", ALL), Scripted("b")]
    evaluate(QUESTIONS, systems, tmp_path / "run", **arguments)
    assert systems[0].asked == systems[1].asked == []
    assert len(run.predictions()) == 14


def test_a_batch_of_another_size_goes_on_with_the_same_run(tmp_path) -> None:
    evaluate(QUESTIONS, [Scripted("a")], tmp_path, retrievers={"bm25": index()}, batch_size=2)
    system = Scripted("a")
    evaluate(QUESTIONS, [system], tmp_path, retrievers={"bm25": index()}, batch_size=5)
    assert system.asked == []


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_half_a_line_at_the_end_is_made_again(tmp_path, cut) -> None:
    evaluate(QUESTIONS, [Scripted("a", ALL)], tmp_path, retrievers={"bm25": index()})
    file = tmp_path / "predictions-0.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert len(RunFolder(tmp_path).predictions()) == 6
    system = Scripted("a", ALL)
    evaluate(QUESTIONS, [system], tmp_path, retrievers={"bm25": index()})
    assert len(system.asked) == 1
    assert file.read_bytes() == whole


def test_a_damaged_line_elsewhere_is_an_error_that_names_it(tmp_path) -> None:
    evaluate(QUESTIONS, [Scripted("a")], tmp_path, retrievers={"bm25": index()})
    file = tmp_path / "predictions-0.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[0], lines[1][:9] + b"\n", *lines[2:]]))
    with pytest.raises(DataError, match=r"predictions-0\.jsonl, line 2 is damaged"):
        evaluate(QUESTIONS, [Scripted("a")], tmp_path, retrievers={"bm25": index()})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"systems": [Scripted("b")]}, "systems"),
        ({"systems": [Scripted("a", ALL)]}, "systems"),
        ({"questions": QUESTIONS[1:]}, "questions"),
        ({"questions": [replace(QUESTIONS[0], answers=("?",)), *QUESTIONS[1:]]}, "questions"),
        ({"retrievers": {"other": index()}}, "conditions"),
        ({"passages": (2,)}, "conditions"),
        ({"details": {"corpus": "b"}}, "details"),
    ],
)
def test_predictions_of_another_run_are_left_alone(tmp_path, change, named) -> None:
    first = {"questions": QUESTIONS, "systems": [Scripted("a")], "retrievers": {"bm25": index()}}
    first["details"] = {"corpus": "a"}
    evaluate(out=tmp_path, **first)
    before = contents(tmp_path)
    with pytest.raises(SettingsError, match=rf"another run \(.*{named}.*give a new folder"):
        evaluate(out=tmp_path, **first | change)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("decoded", [False, True])
def test_other_weights_under_the_same_name_do_not_go_on(tmp_path, decoded) -> None:
    def system(seed: int) -> System:
        model, tokenizer = tiny_models.build("llama")
        torch.manual_seed(seed)
        model.model.layers[0].mlp.down_proj.reset_parameters()
        answering = SpringModel(Backbone(model, tokenizer, "mm"))
        if decoded:
            return DecodedSystem("a", RagDecoder(answering, "rag-token"), "rag-token mm", max_new_tokens=2)
        return PromptedSystem("a", answering, "a", max_new_tokens=2)

    first = {"questions": QUESTIONS[:1], "out": tmp_path, "retrievers": {"bm25": index()}}
    evaluate(systems=[system(0)], **first)
    evaluate(systems=[system(0)], **first)
    with pytest.raises(SettingsError, match=r"another run \(systems: a: weights: .* give a new folder"):
        evaluate(systems=[system(1)], **first)
    settings = tmp_path / "evaluation.json"  # as a release wrote it that did not know the weights
    settings.write_text(re.sub(r'"weights": "\w+"', '"weights": ""', settings.read_text()))
    evaluate(systems=[system(1)], **first)


def test_predictions_without_settings_are_left_alone(tmp_path) -> None:
    (tmp_path / "predictions-0.jsonl").write_text("{}\n")
    with pytest.raises(SettingsError, match="without their settings"):
        evaluate(QUESTIONS, [Scripted("a")], tmp_path, retrievers={"bm25": index()})
    assert list(contents(tmp_path)) == ["predictions-0.jsonl"]


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        evaluate(QUESTIONS, [Scripted("a")], tmp_path / "file" / "run", retrievers={"bm25": index()})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"questions": []}, DataError, "no questions"),
        ({"questions": [replace(QUESTIONS[0], answers=())]}, DataError, "'q0' of 'capitals' has no answers"),
        ({"questions": [*QUESTIONS, QUESTIONS[2]]}, DataError, "the first is 'q2' of 'capitals'"),
        ({"systems": []}, SettingsError, "no systems"),
        ({"systems": [Scripted("a"), Scripted("a")]}, SettingsError, "two systems are called 'a'"),
        ({"retrievers": {}}, SettingsError, "a answers from passages, but there are no retrievers"),
        ({"retrievers": {"../x": index()}}, SettingsError, "'../x' becomes part of a file name"),
        ({"passages": (0,)}, SettingsError, "passages must be"),
        ({"passages": (3, 3)}, SettingsError, "passages must be different"),
        ({"batch_size": 0}, SettingsError, "batch_size must be a whole number from 1 to 65,536, got batch_size=0"),
        ({"batch_size": 10**9}, SettingsError, "from 1 to 65,536"),
    ],
)
def test_impossible_input_is_named_before_anything_is_written(tmp_path, change, error, message) -> None:
    fine = {"questions": QUESTIONS, "systems": [Scripted("a")], "retrievers": {"bm25": index()}}
    with pytest.raises(error, match=message):
        evaluate(out=tmp_path / "run", **fine | change)
    assert not (tmp_path / "run").exists()


def test_more_tokens_than_there_are_is_an_error(spring_llama) -> None:
    with pytest.raises(TokenCountError, match="n=8"):
        token_systems(spring_llama, "SPRING", (1, 9))
    with pytest.raises(SettingsError, match="its model has none"):
        PromptedSystem("a", spring_llama.with_changes(tokens=None), "a", k=1)


def test_datasets_may_share_ids_and_have_metrics_of_their_own(tmp_path) -> None:
    run = evaluate([*QUESTIONS, *OTHER], [Scripted("a", ALL)], tmp_path, retrievers={"bm25": index()})
    made = run.predictions()
    assert len(made) == 14
    assert set(made["popqa", "q1", "a", "bm25", 3].scores) == {"em", "f1", "contains", "accuracy"}


def test_what_a_run_was_asked_is_read_back_as_it_was(tmp_path) -> None:
    talk = replace(QUESTIONS[0], id="t", history=(("where?", "in Peru"),))
    asked = [*QUESTIONS, talk]
    run = evaluate(asked, [Scripted("a")], tmp_path, retrievers={"bm25": index()})
    assert run.questions() == asked
    found = index().search_many([q.text for q in asked], 3)
    assert [[p.id for p in run.retrieved("bm25")[q.dataset, q.id]] for q in asked] == [[p.id for p in f] for f in found]


def test_one_prompt_at_a_time_where_a_model_takes_no_batches(spring_llama, monkeypatch) -> None:
    sizes: list[int] = []
    generate = SpringModel.generate

    def counted(self, prompts, **options):
        sizes.append(len(prompts))
        return generate(self, prompts, **options)

    monkeypatch.setattr(SpringModel, "generate", counted)
    system = PromptedSystem("a", spring_llama, "a", batch=False, max_new_tokens=3)
    answers = system.answer(QUESTIONS, [PASSAGES[:2]] * 7)
    assert sizes == [1] * 7
    assert answers == replace(system, batch=True).answer(QUESTIONS, [PASSAGES[:2]] * 7)


def test_decoders_are_asked_with_their_own_k(spring_llama, tmp_path) -> None:
    decoding = pytest.importorskip("spring_integrations.decoding")
    decoder = decoding.RagDecoder(spring_llama, "rag-token")
    system = DecodedSystem("rag-token", decoder, "rag-token", k=3, max_new_tokens=4)
    run = evaluate(QUESTIONS[:2], [system], tmp_path, retrievers={"bm25": index()}, passages=(2,))
    for question in QUESTIONS[:2]:
        passages = run.retrieved("bm25")["capitals", question.id]
        expected = decoder.answer(question.question, passages, k=3, max_new_tokens=4).text
        assert run.predictions()["capitals", question.id, "rag-token", "bm25", 2].text == expected


def test_two_processes_share_the_questions(tmp_path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from evaluation_kit import QUESTIONS, Scripted, index\n"
        "from spring_integrations.evaluation.runner import evaluate\n"
        "system = Scripted('a', frozenset({'q1', 'q4'}))\n"
        "run = evaluate(QUESTIONS, [system], sys.argv[1], retrievers={'bm25': index()}, batch_size=2)\n"
        "assert len(run.predictions()) == 7\n"
        "sys.stdout.write(f'asked {len(system.asked)}\\n')\n"
    )
    paths = [Path(__file__).parent, Path(spring_integrations.__file__).parents[1]]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    # --multi_gpu starts processes on a machine without GPUs too; --cpu alone would start one.
    launch = [str(Path(sys.executable).parent / "accelerate"), "launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [*launch, str(script), str(tmp_path / "run")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("asked")) == ["asked 3", "asked 4"]
    alone = evaluate(
        QUESTIONS,
        [Scripted("a", frozenset({"q1", "q4"}))],
        tmp_path / "alone",
        retrievers={"bm25": index()},
        batch_size=2,
    )
    assert RunFolder(tmp_path / "run").predictions() == alone.predictions()
    sizes = [len((tmp_path / "run" / f"predictions-{i}.jsonl").read_text().splitlines()) for i in (0, 1)]
    assert sizes == [4, 3]
    settings = [json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("run", "alone")]
    assert settings[0] == settings[1], "a run of two processes can go on with one"


def test_unused_tokens_leave_plain_generation_bit_identical(spring_llama, llama_folder) -> None:
    other = SpringModel.from_pretrained(str(llama_folder))
    other.backbone.lm_head.weight.data[7] += 1.0
    same = SpringModel.from_pretrained(str(llama_folder))
    found = general_ability(spring_llama, {"changed": other, "same": same})
    for name in (UNUSED_TOKENS, "same"):
        assert (found[name].identical, found[name].changed, found[name].logit_difference) == (True, 0, 0.0)
    assert not found["changed"].identical
    assert found["changed"].logit_difference > 0
    assert found["changed"].prompts == 16


def test_a_table_that_leaks_into_plain_generation_would_be_seen(spring_llama, monkeypatch) -> None:
    attach = spring_llama.frozen.attach

    def leaking(tokens):
        first = attach(tokens)
        spring_llama.backbone.get_input_embeddings().base.weight.data[5:40] *= 1.5
        return first

    monkeypatch.setattr(spring_llama.frozen, "attach", leaking)
    assert not general_ability(spring_llama)[UNUSED_TOKENS].identical


def test_a_closed_book_prompt_is_no_prompt_that_lost_its_boundary(spring_llama: SpringModel, caplog) -> None:
    system = PromptedSystem("SPRING", spring_llama, "SPRING", 8, max_new_tokens=2)
    assert system.answer([Question("1", "Where is Lima?", ("Peru",))], [[]])
    assert not caplog.records
