#!/usr/bin/env bash
# Rebuild the starter library. A prompt for images, and one that matches the texts of a pair, is tuned by the command that
# its card names; the others for texts, and what was measured with them, are what the ready study cross-modality makes, less
# the prompts that learned nothing.
#     tools/build_starter.sh [NAME...]        all prompts, or those named, such as vision/land-zones; text for the study's
set -euo pipefail
cd "$(dirname "$0")/.."
library=$PWD/src/promptgraft/starter
export PATH=$PWD/.venv/bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

images="--image-size 70 --dtype bfloat16 --n-train 800 --n-val 200 --n-test 200"
pairs="--backbone packs/minilm-l6 --method spt --layers shallow --prompt-length 20 --max-length 64 --dtype bfloat16"
pairs+=" --epochs 3"
prompts=(
  "vision/land-zones builtin/land-zones --method spt --layers deep $images"
  "vision/digits builtin/digits --method spt --layers deep $images"
  "vision/textile builtin/textile --method spt --layers shallow $images"
  "text/boolq-match builtin/boolq-match $pairs --n-train 2000 --n-val 500 --n-test 500 --test"
  "text/piqa-match builtin/piqa-match $pairs --n-train 2000 --n-val 440 --n-test 440 --test"
  "text/pubmedqa-match builtin/pubmedqa-match $pairs --n-train 1400 --n-val 300 --n-test 300 --test"
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

if (($#)) && [[ " $* " != *" text "* ]]; then exit; fi
study=studies/cross-modality
promptgraft study run "$study" --on processes
promptgraft study evidence "$study" --library "$library" --licence Apache-2.0
for name in boolq crepe piqa pubmedqa; do # on validation not above always guessing the majority
  promptgraft library remove "text/$name" --library "$library"
done
