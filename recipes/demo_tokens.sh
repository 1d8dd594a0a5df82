#!/bin/sh
# Trains the virtual tokens of the model "demo", with `spring-rag prepare` and `spring-rag train` alone.
#
#   sh recipes/demo_tokens.sh DATA [OUT]
#
# DATA holds questions on passages, as squadshifts_{new_wiki,reddit,amazon}.jsonl.gz (SQuADShifts v1.0, Miller et al.
# 2020, CC BY 4.0): lines of question, answers, passage and title. A tenth of the articles is held out. The tokens are
# OUT/all_layouts/spring_tokens.safetensors. Three stages, 490 steps of 8 examples: one to two hours on two cores. The
# same command goes on where an interrupted one stopped.
set -eu
data=${1:?the folder with the questions}
out=${2:-demo_tokens}
mkdir -p "$out"

# prepared NAME COUNT: so many questions of a source, half of them written as people type them.
prepared() {
    [ -f "$out/$1.held.jsonl" ] || spring-rag prepare "$data/$1.jsonl.gz" \
        --out "$out/$1.jsonl" --limit "$2" --hold-out 0.1 --held-out "$out/$1.held.jsonl" --held-out-limit 16 \
        --top 5 --gold-within 3 --passage-words 120 --max-answer-words 6 --max-answers 2 --answers-in-passage --typed 0.5
}
prepared squadshifts_new_wiki 2400
prepared squadshifts_reddit 760
prepared squadshifts_amazon 760
cat "$out"/*.held.jsonl >"$out/validation.jsonl"

# stage NAME FIRST LAST OPTION…: trains on these lines of every source; no line is shown twice.
stage() {
    stage_name=$1 first=$2 last=$3
    shift 3
    for name in new_wiki reddit amazon; do
        sed -n "$first,${last}p" "$out/squadshifts_$name.jsonl"
    done >"$out/$stage_name.jsonl"
    spring-rag train "$out/$stage_name.jsonl" --model demo --dtype bfloat16 --out "$out/$stage_name" \
        --validation "$out/validation.jsonl" --save-steps 60 --epochs 1 --batch-size 8 --top 3 "$@"
}

# A large rate finds what to do, the paper's prompt only; then smaller ones, on the prompts that chains have.
stage start 1 80 --learning-rate 0.04
stage two_layouts 81 560 --learning-rate 0.01 --warmup-ratio 0.05 --layouts paper,langchain \
    --init "$out/start/spring_tokens.safetensors"
stage all_layouts 561 2400 --learning-rate 0.01 --warmup-ratio 0.05 --layouts paper,langchain,llama-index,chat \
    --passage-order retrieved --k-draw log-uniform --k-samples 2 \
    --init "$out/two_layouts/spring_tokens.safetensors"
