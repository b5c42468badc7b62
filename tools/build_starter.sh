#!/usr/bin/env bash
# Rebuild the starter library: each prompt is tuned by the command that its card names, then added.
#     tools/build_starter.sh [NAME...]        all prompts, or those named, such as vision/land-zones
set -euo pipefail
cd "$(dirname "$0")/.."
library=$PWD/src/promptgraft/starter
export PATH=$PWD/.venv/bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

images="--image-size 70 --dtype bfloat16 --n-train 800 --n-val 200 --n-test 200"
texts="--dtype bfloat16 --n-train 1000 --n-val 300 --n-test 300"
prompts=(
  "vision/land-zones builtin/land-zones --method spt --layers deep $images"
  "vision/digits builtin/digits --method spt --layers deep $images"
  "vision/textile builtin/textile --method spt --layers shallow $images"
  "text/newsgroups builtin/newsgroups --method spt --layers shallow $texts"
  "text/sarcasm builtin/sarcasm --method spt --layers shallow $texts"
  "text/amazon-sentences builtin/amazon-sentences --method spt --layers shallow --dtype bfloat16 --n-train 700 --n-val 150 --n-test 150"
)
for prompt in "${prompts[@]}"; do
  read -r name arguments <<<"$prompt"
  if (($#)) && [[ " $* " != *" $name "* ]]; then continue; fi
  if [[ -d $library/$name ]]; then continue; fi
  folder=${name//\//-}
  # shellcheck disable=SC2086  # the options are meant to split
  (cd "$work" && promptgraft tune $arguments --licence Apache-2.0 --name "$name" --out "$folder")
  promptgraft library add "$work/$folder" --name "$name" --library "$library"
done
