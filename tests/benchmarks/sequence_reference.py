"""How well the next thing can be guessed by the order of things, where everything is in one place: for scale.

    python tests/benchmarks/sequence_reference.py --data PATH/ml-1m

Two models: *what followed what*, a table from items to items that counts, and SASRec (Kang & McAuley 2018). Same people, held-out
interactions and negatives as `p2prec lab run --seed 0`. Settings were chosen on the validation: the last interaction of the
training part. As usual for it, SASRec is trained without that one, and asked with the whole training part as the history in the
test; the table is counted again. Interactions of the same time are ordered by lot, for SASRec afresh in every epoch. Needs
PyTorch; on one core MovieLens-1M takes about five minutes.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from p2prec.data.histories import Histories, read_histories
from p2prec.lab.dataset import take_people
from p2prec.lab.evaluate import Judge
from p2prec.lab.splits import LabSplit, split, split_people
from p2prec.lab.user_side import last_ones
from p2prec.model.recency import recency_ranks
from p2prec.types import FloatArray, IndexArray

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    sys.exit("sequence_reference.py needs PyTorch: pip install torch")

HEADS = 2
"""Of attention, in each block."""
NEGATIVES = 300
"""Items that a batch's true ones compete with in training, drawn evenly among those that somebody touched."""
BATCH = 16
"""Windows in a step of the optimizer."""
STEPS_AFTER = 10
"""How many of the items after an item are counted as following it."""
FADING = 3.0
"""In interactions: who follows how closely, and how recent an item of the history is, counts `exp(-distance / FADING)`."""
POPULARITY_POWER = 0.3
"""What follows everything is held back by so much."""
PRIOR = 5.0
"""Added to the number of an item's followers, so that few say little."""


class Block(nn.Module):
    """Attention to what came before, then two layers, each added to what they are given."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, length, width = x.shape
        parts = self.project(self.before_attention(x)).view(n, length, 3, HEADS, width // HEADS)
        seen = functional.scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4), is_causal=True)
        x = x + self.join(seen.transpose(1, 2).reshape(n, length, width))
        return x + self.layers(self.before_layers(x))


class SequenceModel(nn.Module):
    """Scores of what comes after each of the last `window` items."""

    def __init__(self, n_items: int, width: int, window: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.window, self.padding = window, n_items
        self.items = nn.Embedding(n_items + 1, width, padding_idx=n_items)
        self.places = nn.Embedding(window, width)
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in range(blocks)), nn.LayerNorm(width))
        nn.init.normal_(self.items.weight, std=0.1)
        nn.init.normal_(self.places.weight, std=0.02)

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """sequences: (n, length) item indices, padded at the end, which no item before sees. Returns (n, length, width)."""
        x = 2 * self.items(sequences) + self.places.weight[: sequences.shape[1]]
        states: torch.Tensor = self.blocks(self.dropout(x))
        return states

    def loss(self, states: torch.Tensor, following: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the true items (n,) among them and the candidates (k,), given the states (n, width) before them."""
        true = (states * self.items(following)).sum(dim=1) + self.bias[following]
        others = states @ self.items.weight[candidates].T + self.bias[candidates]
        others = others - 1e4 * (candidates == following[:, None])
        return (torch.logaddexp(torch.logsumexp(others, 1), true) - true).mean()

    @torch.no_grad()
    def scores(self, sequences: list[IndexArray]) -> FloatArray:
        """(n_people, n_items): what comes after everything."""
        self.eval()
        rows = []
        for start in range(0, len(sequences), 128):
            recent = [sequence[-self.window :] for sequence in sequences[start : start + 128]]
            states = self(torch.from_numpy(_padded(recent, self.padding)))
            last = states[torch.arange(len(recent)), torch.tensor([len(one) - 1 for one in recent])]
            rows.append((last @ self.items.weight[:-1].T + self.bias).numpy())
        return np.concatenate(rows)


def main() -> None:
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    histories = read_histories(options.data)
    judged = split(take_people(histories, split_people(histories, "last")), "last", np.random.default_rng([0, 0]))
    validation = next(last_ones(judged.train, 1, 0))
    print(f"{options.data.name}, {judged.n_peers} people; {options}")
    print("sampled HR@10 / NDCG@10, full HR@10 / NDCG@10")
    print("what followed what")
    for title, parts in (("validation", validation), ("test", judged)):
        print(f"{title:18} {_figures(_by_followers(parts.train, options.seed), parts)}", flush=True)
    print("SASRec")
    model = _train(validation, options)
    print(f"{'test':18} {_figures(_by_sequences(model, judged.train, options.seed), judged)}")


def _train(parts: LabSplit, options: argparse.Namespace) -> SequenceModel:
    rng = np.random.default_rng([options.seed, 1])
    model = SequenceModel(len(parts.train.catalogue), options.width, options.window, options.blocks, options.dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=1e-4, betas=(0.9, 0.98), fused=True)
    touched = torch.from_numpy(np.flatnonzero(parts.train.counts()))
    started = time.process_time()
    for epoch in range(options.epochs):
        model.train()
        warm = min(1.0, (epoch + 1) / 2)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * warm * (0.525 + 0.475 * math.cos(math.pi * epoch / options.epochs))
        for windows in _batches(_sequences(parts.train, rng), options.window, rng):
            batch = torch.from_numpy(_padded(windows, model.padding))
            known = batch[:, 1:] != model.padding
            candidates = touched[torch.randint(len(touched), (NEGATIVES,))]
            loss = model.loss(model(batch[:, :-1])[known], batch[:, 1:][known], candidates)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        if epoch % options.every == options.every - 1:
            seconds = time.process_time() - started
            found = _figures(_by_sequences(model, parts.train, options.seed), parts)
            print(f"{f'{epoch + 1} epochs, {seconds:.0f} s':18} {found}", flush=True)
    return model


def _sequences(histories: Histories, rng: np.random.Generator) -> list[IndexArray]:
    """Everybody's items from the oldest on; equal times by lot."""
    people = (histories.of(person) for person in range(len(histories)))
    return [one.items[np.lexsort((rng.random(len(one.items)), one.times))] for one in people]


def _batches(sequences: list[IndexArray], window: int, rng: np.random.Generator) -> list[list[IndexArray]]:
    """Everybody's sequence in windows of `window + 1`, from a random place near its end backwards; equally long ones together."""
    windows = []
    for sequence in sequences:
        spare = rng.integers(0, window // 2) if len(sequence) > window and rng.random() < 0.5 else 0
        windows += [sequence[max(0, end - window - 1) : end] for end in range(len(sequence) - spare, 1, -window)]
    lengths = np.array([len(one) for one in windows])
    order = np.argsort(lengths + 8 * rng.random(len(windows)))
    batches = [[windows[at] for at in order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
    return [batches[at] for at in rng.permutation(len(batches))]


def _padded(sequences: list[IndexArray], padding: int) -> IndexArray:
    result = np.full((len(sequences), max(map(len, sequences))), padding, np.int64)
    for row, sequence in zip(result, sequences, strict=True):
        row[: len(sequence)] = sequence
    return result


def _by_sequences(model: SequenceModel, histories: Histories, seed: int) -> FloatArray:
    return model.scores(_sequences(histories, np.random.default_rng([seed, 2])))


def _by_followers(histories: Histories, seed: int) -> FloatArray:
    """(n_people, n_items) by the followers of what each person had last."""
    n_items = len(histories.catalogue)
    sequences = _sequences(histories, np.random.default_rng([seed, 2]))
    followers = np.zeros(n_items * n_items)
    for distance in range(1, STEPS_AFTER + 1):
        pairs = np.concatenate([one[:-distance] * n_items + one[distance:] for one in sequences])
        followers += np.exp((1 - distance) / FADING) * np.bincount(pairs, minlength=n_items * n_items)
    table = followers.reshape(n_items, n_items)
    popularity = np.maximum(table.sum(axis=0), 1.0) ** POPULARITY_POWER
    table = (table / (table.sum(axis=1, keepdims=True) + PRIOR) / popularity).astype(np.float32)
    scores = np.empty((len(histories), n_items), np.float32)
    for person in range(len(histories)):
        own = histories.of(person)
        scores[person] = np.exp(recency_ranks(own.times) / np.float32(-FADING)) @ table[own.items]
    return scores


def _figures(scores: FloatArray, parts: LabSplit) -> str:
    found: Any = Judge(parts, "implicit", np.random.default_rng([0, 1])).judge(scores).figures
    texts = [f"{found[how]['hr_at_10']:.3f} / {found[how]['ndcg_at_10']:.3f}" for how in ("sampled", "full")]
    return ", ".join(texts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set's folder, with times")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--width", type=int, default=64, help="of an item's row")
    parser.add_argument("--window", type=int, default=80, help="interactions that are looked at")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=0.003)
    parser.add_argument("--every", type=int, default=7, help="epochs between two looks at the validation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the training; the split's is always 0")
    return parser.parse_args()


if __name__ == "__main__":
    main()
