"""W6 by gensim: skip-gram, one worker, sentences of two words. It draws negatives itself and does not say its losses."""

from __future__ import annotations

from gensim.models import Word2Vec

from benchmarks import data
from benchmarks.peers.protocol import Model, serve


class SkipGram(Model):
    """A sentence of two words is two pairs."""

    def __init__(self) -> None:
        values = data.skip_gram()
        vocabulary, dimension = values.word_table.shape
        words = [str(word) for word in range(vocabulary)]
        self.sentences = [
            [str(first), str(second)]
            for first, second in zip(values.centers[::2].tolist(), values.contexts[::2].tolist(), strict=True)
        ]
        self.model = Word2Vec(
            vector_size=dimension, window=1, sg=1, negative=5, min_count=1, workers=1, alpha=0.025, min_alpha=0.025, sample=0
        )
        frequency = [int(1e9 / (word + 2.7)) for word in range(vocabulary)]
        self.model.build_vocab_from_freq(dict(zip(words, frequency, strict=True)))

    def run(self, start: int, stop: int) -> None:
        sentences = self.sentences[start // 2 : -(-stop // 2)]
        self.model.train(sentences, total_examples=len(sentences), epochs=1, start_alpha=0.025, end_alpha=0.025)


if __name__ == "__main__":
    serve(SkipGram)
