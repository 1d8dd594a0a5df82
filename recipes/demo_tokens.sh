#!/bin/sh
# Trains the virtual tokens of the model "demo", with `spring-rag prepare` and `spring-rag train` alone.
#
#   sh recipes/demo_tokens.sh DATA [OUT]
#
# DATA holds questions on passages, as squadshifts_{new_wiki,reddit,amazon}.jsonl.gz (SQuADShifts v1.0, Miller et al.
# 2020, CC BY 4.0): lines of question, answers, passage and title. A tenth of the articles is held out. The tokens are
# OUT/dates/spring_tokens.safetensors. Four stages, some 550 steps of 8 examples: two hours on two cores. The same
# command goes on where an interrupted one stopped.
set -eu
data=${1:?the folder with the questions}
out=${2:-demo_tokens}
mkdir -p "$out"

# prepared NAME COUNT: so many questions of a source, drawn, half of them written as people type them.
prepared() {
    [ -f "$out/$1.held.jsonl" ] || spring-rag prepare "$data/$1.jsonl.gz" \
        --out "$out/$1.jsonl" --limit "$2" --hold-out 0.1 --held-out "$out/$1.held.jsonl" --held-out-limit 16 \
        --top 5 --gold-within 3 --passage-words 120 --max-answer-words 6 --max-answers 2 --answers-in-passage --typed 0.5
}
prepared squadshifts_new_wiki 6000
prepared squadshifts_reddit 7000
prepared squadshifts_amazon 7000
cat "$out"/*.held.jsonl >"$out/validation.jsonl"

# lines FIRST LAST LAST_OF_OTHERS: these lines of the Wikipedia questions, and of the other two sources.
lines() {
    sed -n "$1,${2}p" "$out/squadshifts_new_wiki.jsonl"
    for name in reddit amazon; do
        sed -n "$1,${3}p" "$out/squadshifts_$name.jsonl"
    done
}

# stage NAME OPTION…: trains on the lines that it reads.
stage() {
    stage_name=$1
    shift
    cat >"$out/$stage_name.jsonl"
    spring-rag train "$out/$stage_name.jsonl" --model demo --dtype bfloat16 --out "$out/$stage_name" \
        --validation "$out/validation.jsonl" --save-steps 60 --epochs 1 --batch-size 8 --top 3 "$@"
}

# A large rate finds what to do, the paper's prompt only; then smaller ones, on the prompts that chains have.
lines 1 80 80 | stage start --learning-rate 0.04
lines 81 560 560 | stage two_layouts --learning-rate 0.01 --warmup-ratio 0.05 --layouts paper,langchain \
    --init "$out/start/spring_tokens.safetensors"
lines 561 2400 760 | stage all_layouts --learning-rate 0.01 --warmup-ratio 0.05 --layouts paper,langchain,llama-index,chat \
    --passage-order retrieved --k-draw log-uniform --k-samples 2 \
    --init "$out/two_layouts/spring_tokens.safetensors"

# Answers that are a date with its year are rare there, and without them the tokens have it left out.
months='January|February|March|April|May|June|July|August|September|October|November|December'
{
    grep -hE "\"target\": \[[^]]*($months)[^]]* [0-9]{4}" "$out"/squadshifts_new_wiki.jsonl \
        "$out"/squadshifts_reddit.jsonl "$out"/squadshifts_amazon.jsonl || true
    lines 2401 2760 2412
} | stage dates --learning-rate 0.006 --warmup-ratio 0.05 --layouts paper,langchain,llama-index,chat \
    --passage-order retrieved --k-draw sandwich --k-samples 2 \
    --init "$out/all_layouts/spring_tokens.safetensors"
