"""Pictures of graphs: the text says what the graph is, the picture can be drawn, and neither changes anything."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest

import wyrm


def lines(node):
    return [" ".join(line.split()) for line in str(wyrm.draw(node)).splitlines()]


def gradients(node):
    """What the text says of each named parameter."""
    return {line.split("'")[1]: line.rsplit(") ", 1)[1] for line in lines(node) if "ParameterNode" in line}


def parameter(*shape, name, **options):
    return wyrm.ParameterNode(np.ones(shape), name=name, **options)


def test_one_line_a_node_operands_first():
    x, w = wyrm.InputNode((1, 3), name="x"), parameter(3, 2, name="w")
    y = x.dot(w)
    assert lines((y * y + 0.25).scalar_sum()) == [
        "0 InputNode 'x' (1, 3)",
        "1 ParameterNode 'w' (3, 2) dense gradient",
        "2 dot (1, 2) of 0, 1",
        "3 multiply (1, 2) of 2, 2",
        "4 constant 0.25 (1, 1)",
        "5 add (1, 2) of 3, 4",
        "6 sum (1, 1) of 5",
    ]


def test_columns_are_aligned():
    text = str(wyrm.draw(wyrm.InputNode((1, 1), name="long name") * parameter(1, 1, name="w")))
    assert len({line.index("(1, 1)") for line in text.splitlines()}) == 1


def test_gradients_are_what_a_backward_pass_leaves(backend):
    """Every kind, told from the gradient that a pass gives."""
    index, bag = wyrm.IndexInputNode(2, [0, 1]), wyrm.BagInputNode(1, [[1, 2]])
    nodes = {name: parameter(3, 2, name=name) for name in ("looked up", "pooled", "both", "whole", "unreached")}
    nodes["frozen"] = parameter(3, 2, name="frozen", trainable=False)
    loss = nodes["looked up"].index(index).scalar_sum() + nodes["pooled"].index_sum(bag).scalar_sum()
    loss = loss + (nodes["both"] * nodes["frozen"]).scalar_sum() + nodes["both"].index(index).scalar_sum()
    loss = loss + nodes["whole"].dropout(0.5).scalar_sum() + wyrm.where(nodes["unreached"], 1.0, 2.0).scalar_sum()
    said = gradients(loss)
    loss.backward(1.0)
    for name, node in nodes.items():
        found = node.gradient
        expected = "dense gradient" if isinstance(found, wyrm.DenseGradient) else "row-sparse gradient"
        if isinstance(found, wyrm.RowSparseGradient) and not len(found.rows):
            expected = "no gradient"
        assert said.pop(name) == expected, name
    assert not said
    assert {gradients(loss)[name] for name in nodes} == set(gradients(loss).values())
    assert len(set(gradients(loss).values())) == 3


def test_no_gradient_where_the_node_needs_none():
    frozen = parameter(2, 2, name="w", trainable=False)
    assert gradients(frozen.square()) == {"w": "no gradient"}
    assert gradients(wyrm.where(parameter(2, 2, name="w"), 1.0, 2.0)) == {"w": "no gradient"}


def test_leaves_alone():
    assert lines(parameter(2, 2, name="w")) == ["0 ParameterNode 'w' (2, 2) dense gradient"]
    assert lines(parameter(2, 2, name="w", trainable=False)) == ["0 ParameterNode 'w' (2, 2) no gradient"]
    assert lines(wyrm.InputNode((2, 3))) == ["0 InputNode (2, 3)"]
    assert lines(wyrm.IndexInputNode(4, name="i")) == ["0 IndexInputNode 'i' (4, 1)"]
    assert lines(wyrm.BagInputNode(2)) == ["0 BagInputNode (2, 1)"]


def test_leaves_of_several_graphs():
    table = parameter(3, 1, name="t")
    first = table.index(wyrm.IndexInputNode(1, 0, name="i"))
    first.forward()
    second = wyrm.InputNode((1, 1), 2.0, name="x").square()
    second.forward()
    assert first._graph is not second._graph
    assert lines(first * second) == [
        "0 ParameterNode 't' (3, 1) row-sparse gradient",
        "1 IndexInputNode 'i' (1, 1)",
        "2 index (1, 1) of 0, 1",
        "3 InputNode 'x' (1, 1)",
        "4 square (1, 1) of 3",
        "5 multiply (1, 1) of 2, 4",
    ]


@pytest.mark.slow
def test_deep_graphs():
    node = wyrm.InputNode((1, 1)) * parameter(1, 1, name="w")
    for _ in range(10_000):
        node = node.tanh()
    text = lines(node)
    assert len(text) == 10_003
    assert text[-1] == "10002 tanh (1, 1) of 10001"
    assert text[1] == "1 ParameterNode 'w' (1, 1) dense gradient"
    assert wyrm.draw(node)._repr_svg_() is None


def test_drawing_leaves_the_graph_open():
    x = wyrm.InputNode((1, 1))
    str(wyrm.draw(x.square()))
    assert wyrm.InputNode((1, 1))._graph is x._graph


def test_a_drawing_stays_as_it_was():
    x = wyrm.InputNode((1, 1), name="before")
    drawing = wyrm.draw(x)
    x.name = "after"
    assert "before" in str(drawing)
    assert repr(drawing) == "<Drawing of InputNode 'before' (1, 1), 1 nodes>"


def test_only_nodes_are_drawn():
    with pytest.raises(wyrm.DTypeError, match=r"draw: expected a node, got 3"):
        wyrm.draw(3)


def test_pictures(tmp_path):
    """Names are text, whatever is in them: neither XML nor mathematics."""
    loss = (wyrm.InputNode((1, 3), name="<x> & $y_").dot(parameter(3, 2, name="$w^$")) + 0.5).scalar_sum()
    drawing = wyrm.draw(loss)
    figure = drawing._figure()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    assert [text.get_text() for text in texts][:2] == ["InputNode '<x> & $y_'\n(1, 3)", "ParameterNode '$w^$'\n(3, 2)"]
    assert len(texts) == 6
    assert len({text.get_bbox_patch().get_facecolor() for text in texts}) == 3
    assert len(figure.axes[0].texts) - len(texts) == 5  # arrows
    places = [text.get_position()[1] for text in texts]
    assert places[0] == places[1] == places[3] < places[2] < places[4] < places[5]  # leaves, then each layer
    assert figure.axes[0].yaxis_inverted()  # downwards
    assert ElementTree.fromstring(drawing._repr_svg_()).tag.endswith("svg")
    drawing.save(tmp_path / "a.svg")
    drawing.save(str(tmp_path / "no suffix"))
    drawing.save(tmp_path / "a.PNG")
    for name in ("a.svg", "no suffix"):
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")


def test_a_single_node_can_be_drawn():
    assert "<svg" in wyrm.draw(wyrm.InputNode((1, 1)))._repr_svg_()


def test_nothing_global_is_loaded():
    code = """
import sys, wyrm
drawing = wyrm.draw(wyrm.InputNode((1, 1)).square())
str(drawing)
assert not {"matplotlib", "networkx"} & set(sys.modules)
drawing._repr_svg_()
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize("missing", ["networkx", "matplotlib.figure"])
def test_without_the_extra(missing, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, missing, None)
    drawing = wyrm.draw(wyrm.InputNode((1, 1)))
    assert str(drawing)
    assert drawing._repr_svg_() is None
    with pytest.raises(wyrm.CapabilityError, match=r"pip install wyrm-autodiff\[draw\]"):
        drawing.save(tmp_path / "a.svg")


def shown(drawing):
    """What IPython prints."""
    parts = []
    drawing._repr_pretty_(SimpleNamespace(text=parts.append), False)
    return "".join(parts)


def test_notebooks_without_the_extra_show_the_text(monkeypatch):
    drawing = wyrm.draw(wyrm.InputNode((1, 1), name="x").square())
    assert shown(drawing) == str(drawing) and "InputNode 'x'" in str(drawing)
    monkeypatch.setitem(sys.modules, "networkx", None)
    assert shown(drawing).startswith(str(drawing)) and "pip install wyrm-autodiff[draw]" in shown(drawing)
    monkeypatch.setattr("wyrm.frontend.drawing._NOTEBOOK_LIMIT", 1)
    assert shown(drawing).startswith("<Drawing of square (1, 1), 2 nodes>\n")
