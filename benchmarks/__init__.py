"""The benchmarks: the same training, by Wyrm's backends, by hand and by peers, in turn in one run.

``make bench`` runs them all and writes ``docs/benchmarks.md``; ``python -m benchmarks --help`` has the options.

* :mod:`.data`, :mod:`.workloads`: what is trained, on which data; the sum of the first losses that tells whether two
  programs do the same.
* :mod:`.competitor`: what takes part. One module a family: :mod:`.by_fit` and :mod:`.from_python`, over the graphs of
  :mod:`.models`; by hand, over the arrays of :mod:`.by_hand`: :mod:`.c_loops` (``c/``), :mod:`.numba_loops` and
  :mod:`.numpy_loops`. :mod:`.entrants` says who takes part in what.
* :mod:`.measuring`: everything in turn, in rounds; :mod:`.sweeps`: what a step costs by size; :mod:`.instructions`.
* :mod:`.machine`, :mod:`.results`: where it ran, and the figures; :mod:`.report`, :mod:`.pictures`: the page made of them.

Machines differ, and so do minutes: compare the ratios, which are taken within a round.
"""
