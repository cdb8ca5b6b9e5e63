"""The frontend: nodes, ops, shapes, derivatives, sparse gradients, and the lowering of graphs to programs.

It owns everything mathematical and knows no backend.
"""
