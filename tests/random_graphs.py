"""Random graphs, as the conformance suite draws them and with kinks beside: a backend, the reference and finite differences.

``python tests/random_graphs.py --backend NAME --graphs N`` compares a backend with the reference, and the reference with finite
differences, on N of them, in float64.
"""

from __future__ import annotations

import argparse

import numpy as np
from wyrm_conformance.graphs import passes, random_graph, trained

import wyrm


def drawn(seed):
    """The graph of a seed."""
    return random_graph(np.random.default_rng(seed), kinks=True)


def evaluated(node):
    """The value of a node by a program of its own, that keeps nothing else."""
    kinds = (wyrm.InputNode, wyrm.IndexInputNode, wyrm.BagInputNode)
    leaves = [leaf for leaf in node._ancestors() if isinstance(leaf, kinds)]
    inputs = {leaf: leaf.value if isinstance(leaf, wyrm.BagInputNode) else leaf.value[None] for leaf in leaves}
    if not inputs:
        return node.value
    return wyrm.evaluate(node, inputs, backend="reference")[0]


def deviation(actual, expected):
    """The largest error relative to the larger of 1 and the largest expected element; infinite where anything is NaN."""
    assert actual.shape == expected.shape
    if not actual.size:
        return 0.0
    scale = max(1.0, float(np.max(np.abs(expected))))
    error = float(np.max(np.abs(actual - expected))) / scale
    return error if np.isfinite(error) else np.inf


def against_reference(seed, backend, tolerance=1e-9):
    """Values and gradients of a graph on a backend and on the reference; returns the worst error."""
    graph = drawn(seed)
    expected, actual = passes(graph, "reference"), passes(graph, backend)
    worst = max(deviation(a, e) for a, e in zip(actual, expected, strict=True))
    assert worst <= tolerance, f"seed {seed}: backend {backend} is off by {worst:.3g}"
    return worst


def against_differences(seed, backend="reference", tolerance=1e-5):
    """Gradients of a graph and finite differences; returns the worst error. Detached uses are not differentiated by either."""
    graph = drawn(seed)
    if any(node._kind() == "detach" for head in graph.heads for node in head._ancestors()):
        return 0.0
    total = None
    for head, weight in zip(graph.heads, graph.weights, strict=True):
        part = head.scalar_sum() * weight
        total = part if total is None else total + part
    total.forward(backend=backend)
    worst = 0.0
    for parameter in graph.parameters:
        difference, gradient = wyrm.finite_difference(parameter, total)
        worst = max(worst, deviation(gradient, difference))
    assert worst <= tolerance, f"seed {seed}: gradients are off by {worst:.3g}"
    return worst


def training_equals_steps(seed, backend, tolerance=1e-9):
    """One epoch of fit, and the same steps driven from Python, end with the same parameters."""
    expected = trained(seed, "float64", "reference", by_steps=True, kinks=True)
    actual = trained(seed, "float64", backend, by_steps=False, kinks=True)
    worst = max((deviation(a, e) for a, e in zip(actual, expected, strict=True)), default=0.0)
    assert worst <= tolerance, f"seed {seed}: fit on {backend} is off by {worst:.3g}"
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--graphs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    name = wyrm.get_backend(options.backend).name
    seeds = range(options.seed, options.seed + options.graphs)
    worst = max(against_reference(seed, name) for seed in seeds)
    print(f"{len(seeds)} random graphs: {name} agrees with the reference in float64, worst error {worst:.2g}")
    worst = max(training_equals_steps(seed, name) for seed in seeds)
    print(f"{len(seeds)} random graphs: fit on {name} equals steps on the reference, worst error {worst:.2g}")
    worst = max(against_differences(seed) for seed in seeds)
    print(f"{len(seeds)} random graphs: the reference agrees with finite differences, worst error {worst:.2g}")


if __name__ == "__main__":
    main()
