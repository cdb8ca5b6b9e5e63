"""Embeddings of words from text: skip-gram with negative sampling and subwords.

The model of Bojanowski, Grave, Joulin and Mikolov (TACL 2017): a word is the sum of an embedding of its own and of those of
its n-grams of characters, hashed to rows of the same table, so that words seen rarely, or never, have one. It learns to tell
the words around it from others, which are drawn by how often they occur to the power .75 (Mikolov et al., NIPS 2013).

    python skip_gram.py [--text file] [--near WORD ...]

Without a file, text is generated: sentences, each about one of several topics, whose words are known.
"""

import argparse
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

import wyrm


def generated(topics: int = 8, words: int = 15, sentences: int = 2500, seed: int = 0) -> tuple[list[list[str]], dict[str, int]]:
    """Sentences of ten words, of one topic but for some that occur anywhere; and the topic of each word."""
    rng = np.random.default_rng(seed)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    names = {"".join(rng.choice(letters, 6)): None for _ in range(2 * topics * words)}  # in the order drawn, none twice
    vocabulary = np.array(list(names)[: topics * words + 10]).astype(object)
    common, own = vocabulary[:10], vocabulary[10:].reshape(topics, words)
    text = []
    for topic in rng.integers(0, topics, sentences):
        text.append(list(np.where(rng.random(10) < 0.2, rng.choice(common, 10), rng.choice(own[topic], 10))))
    return text, {word: topic for topic in range(topics) for word in own[topic]}


def from_file(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").lower().splitlines()
    return [re.findall(r"\w+", line) for line in lines]


class SkipGram:
    """The model over a vocabulary, and what it takes to train it."""

    def __init__(
        self,
        text: list[list[str]],
        dimensions: int = 32,
        negatives: int = 5,
        least: int = 5,
        buckets: int = 2**15,
        rate: float = 0.05,
        seed: int = 0,
    ) -> None:
        counts = {word: count for word, count in Counter(w for s in text for w in s).most_common() if count >= least}
        self.words, self.number = list(counts), {word: number for number, word in enumerate(counts)}
        self.sentences = [np.array([self.number[w] for w in s if w in self.number], np.int32) for s in text]
        self.buckets, self.rng = buckets, np.random.default_rng(seed)

        start = self.rng.uniform(-1 / dimensions, 1 / dimensions, (len(self.words) + buckets, dimensions))
        self.inputs = wyrm.ParameterNode(start, name="words and their n-grams")
        outputs = wyrm.ParameterNode(np.zeros((len(self.words), dimensions)), name="words around")
        self.parts, self.around = wyrm.BagInputNode(name="a word's parts"), wyrm.IndexInputNode(name="around")
        drawn = wyrm.SampledIndexNode(wyrm.Frequencies(list(counts.values()), power=0.75), count=negatives)
        self.vector = self.inputs.index_mean(self.parts)
        right, wrong = (outputs.index(index).vector_dot(self.vector) for index in (self.around, drawn))
        self.loss = -right.log_sigmoid() - (-wrong).log_sigmoid().scalar_sum()
        self.optimizer = wyrm.optim.Adagrad(rate, self.loss.parameters())

    def parts_of(self, word: str) -> list[int]:
        """The rows of a word: its own, if it is known, and those of its n-grams of three to six characters."""
        marked = f"<{word}>"
        grams = {marked[start : start + n] for n in range(3, 7) for start in range(len(marked) - n + 1)} - {marked}
        own = [self.number[word]] if word in self.number else []
        return own + [len(self.words) + zlib.crc32(gram.encode()) % self.buckets for gram in sorted(grams)]

    def pairs(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        """Each word with those around it, up to a distance that is drawn anew for each word."""
        found = []
        for sentence in self.sentences:
            reach = self.rng.integers(1, window + 1, len(sentence))
            for distance in range(1, min(window, len(sentence) - 1) + 1):
                for centre, around in (
                    (slice(distance, None), slice(None, -distance)),
                    (slice(None, -distance), slice(distance, None)),
                ):
                    near = reach[centre] >= distance
                    found.append((sentence[centre][near], sentence[around][near]))
        centres, contexts = zip(*found, strict=True)
        return np.concatenate(centres), np.concatenate(contexts)

    def chunks(self, window: int = 5, size: int = 50_000):
        """One pass over all pairs, as a stream: bags of parts are made for those of a chunk only."""
        parts = [np.array(self.parts_of(word), np.int32) for word in self.words]
        centres, contexts = self.pairs(window)
        order = self.rng.permutation(len(centres))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            bags = wyrm.Bags.from_lists([parts[centre] for centre in centres[chosen]])
            yield {self.parts: bags, self.around: contexts[chosen]}

    def fit(self, num_epochs: int = 3, **options) -> list[float]:
        """Pairs differ from epoch to epoch; returns the mean loss of each."""
        return [wyrm.fit(self.loss, self.chunks(), self.optimizer, **options).losses[-1] for _ in range(num_epochs)]

    def vectors(self, words: list[str]) -> np.ndarray:
        """Of unit length, for words known or not."""
        found = wyrm.evaluate(self.vector, {self.parts: wyrm.Bags.from_lists([self.parts_of(word) for word in words])})[:, 0]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def nearest(self, word: str, k: int = 5) -> list[str]:
        """The k known words whose vectors have the smallest angles to that of a word, which need not be known."""
        likeness = self.vectors(self.words) @ self.vectors([word])[0]
        return [self.words[n] for n in np.argsort(-likeness) if self.words[n] != word][:k]


def agreement(model: SkipGram, topics: dict[str, int], k: int = 5) -> float:
    """Which share of the nearest words of a word are of its topic; 1 is the best possible."""
    words = [word for word in model.words if word in topics]
    vectors, topic = model.vectors(words), np.array([topics[word] for word in words])
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1)[:, :k]
    return float((topic[nearest] == topic[:, None]).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Skip-gram with negative sampling and subwords.")
    parser.add_argument("--text", type=Path, help="a file in UTF-8, a sentence a line")
    parser.add_argument("--near", nargs="*", help="words whose nearest neighbours are printed")
    parser.add_argument("--dimensions", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.05)
    given = parser.parse_args()
    sentences, known = (from_file(given.text), None) if given.text else generated()
    model = SkipGram(sentences, given.dimensions, rate=given.rate)
    print("mean losses by epoch:", *(f"{loss:.3f}" for loss in model.fit(given.epochs)))
    for word in given.near or model.words[10:15]:
        print(f"{word}: {', '.join(model.nearest(word))}")
    if known:
        print(f"of the five words nearest to each word, {agreement(model, known):.1%} are of its topic")
