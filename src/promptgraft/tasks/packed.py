"""The built-in tasks: one reader each, which takes no argument; its docstring says what the task is."""

from collections.abc import Callable

from promptgraft.registry import Registry
from promptgraft.tasks.labelled import Labelled

_IMAGES = "promptgraft.tasks.packed_images"
_TEXTS = "promptgraft.tasks.packed_texts"
_MATCHING = "promptgraft.tasks.matching"

BUILTIN: Registry[Callable[[], Labelled]] = Registry(
    "built-in task",
    {
        "mnist-5k": f"{_IMAGES}:mnist_5k",
        "digits": f"{_IMAGES}:digits",
        "fashion-mnist": f"{_IMAGES}:fashion_mnist",
        "orl-faces": f"{_IMAGES}:orl_faces",
        "textile": f"{_IMAGES}:textile",
        "emoji": f"{_IMAGES}:emoji",
        "land-zones": "promptgraft.tasks.land_zones:land_zones",
        "dsprites-loc": "promptgraft.tasks.procedural:dsprites_loc",
        "dsprites-ori": "promptgraft.tasks.procedural:dsprites_ori",
        "pong-position": "promptgraft.tasks.pong:pong_position",
        "count-shapes": "promptgraft.tasks.counted_shapes:count_shapes",
        "sarcasm": f"{_TEXTS}:sarcasm",
        "imdb-sentences": f"{_TEXTS}:imdb_sentences",
        "amazon-sentences": f"{_TEXTS}:amazon_sentences",
        "yelp-sentences": f"{_TEXTS}:yelp_sentences",
        "newsgroups": f"{_TEXTS}:newsgroups",
        "tweets": f"{_TEXTS}:tweets",
        "vader-tweets": f"{_TEXTS}:vader_tweets",
        "vader-movie": f"{_TEXTS}:vader_movie",
        "vader-amazon": f"{_TEXTS}:vader_amazon",
        "vader-nyt": f"{_TEXTS}:vader_nyt",
        "spam": "promptgraft.tasks.mail:spam",
        "boolq": f"{_TEXTS}:boolq",
        "privacy-qa": f"{_TEXTS}:privacy_qa",
        "pubmedqa": f"{_TEXTS}:pubmedqa",
        "piqa": f"{_TEXTS}:piqa",
        "corr2cause": f"{_TEXTS}:corr2cause",
        "crepe": f"{_TEXTS}:crepe",
        "boolq-match": f"{_MATCHING}:boolq_match",
        "piqa-match": f"{_MATCHING}:piqa_match",
        "pubmedqa-match": f"{_MATCHING}:pubmedqa_match",
        "word-sense": "promptgraft.tasks.word_sense:word_sense",
    },
    hint="`promptgraft packs ls` lists them.",
)
