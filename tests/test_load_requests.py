"""Loading what does not fit as it is: a part, other names, other dtypes, files of others. Refused unless it is asked for."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import wyrm
from wyrm import nn
from wyrm.optim import SGD


class Net(nn.Module):
    def __init__(self, dtype="float32", further=False, rng=1):
        self.layers = [nn.Linear(2, 2, rng=rng, dtype=dtype), nn.Linear(2, 1, rng=rng + 1, dtype=dtype)]
        if further:
            self.head = nn.Linear(1, 3, rng=rng + 2, dtype=dtype)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net"


def values(model):
    return {name: node.value.copy() for name, node in model.named_parameters().items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def refused(error, pattern, path, model, *args, **options):
    before = values(model)
    with pytest.raises(error, match=pattern):
        wyrm.load(path, model, *args, **options)
    assert_equal(values(model), before)


def test_a_part(path):
    old, new = Net(rng=5), Net(further=True)
    kept = values(new)
    wyrm.save(path, {**old.named_parameters(), "gone": wyrm.ParameterNode(1.0)})
    refused(wyrm.CheckpointError, "has no parameter 'head.weights'", path, new)
    saved = wyrm.load(path, new, strict=False)
    assert saved.missing == ["head.weights", "head.biases"] and saved.unused == ["gone"]
    assert_equal(values(new), {**kept, **values(old)})
    refused(wyrm.CheckpointError, "has no parameter of the model", path, nn.Embedding(3, 2), strict=False)
    wyrm.save(path, {"layers.0.weights": wyrm.ParameterNode(np.ones((3, 2)))})
    refused(wyrm.CheckpointError, r"expected shape \(2, 2\)", path, new, strict=False)


def test_rows_that_are_behind_stay_as_they_are_kept_if_a_part_is_loaded(path):
    """What the file has not is not touched: training goes on to the bit."""
    table, w = wyrm.ParameterNode(np.ones((4, 2)), name="table"), wyrm.ParameterNode(1.0, name="w")
    index = wyrm.IndexInputNode()
    optimizer = SGD(0.1, [table, w], momentum=0.9)
    loss = table.index(index).scalar_sum() * w
    for row in (0, 1, 1):
        index.set_value(row)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    assert 0 in table.storage.behind()
    wyrm.save(path, {"w": w})
    wyrm.load(path, {"table": table, "w": w}, strict=False)
    assert 0 in table.storage.behind()


@pytest.mark.parametrize(
    "rename",
    [
        {f"old.{kind}.{n}": f"layers.{n}.{kind}" for n in (0, 1) for kind in ("weights", "biases")},
        lambda name: "layers.{2}.{1}".format(*name.split(".")),
    ],
)
def test_other_names(path, rename):
    old, new = Net(rng=5), Net()
    wyrm.save(path, {f"old.{n.split('.')[2]}.{n.split('.')[1]}": p for n, p in old.named_parameters().items()}, SGD(0.1, old))
    refused(wyrm.CheckpointError, "has no parameter", path, new)
    wyrm.load(path, new, rename=rename)
    assert_equal(values(new), values(old))


def test_renames_that_are_wrong(path):
    net = Net()
    wyrm.save(path, net)
    refused(wyrm.OptionError, "rename has 'x'", path, net, rename={"x": "y"})
    refused(wyrm.OptionError, "'a' to 'layers.0.weights' and to 'layers.0.biases'", path, net, rename=lambda name: "a")
    refused(wyrm.OptionError, "got None", path, net, rename=lambda name: None)
    refused(wyrm.CheckpointError, "has no parameter 'layers.0.weights'", path, net, rename={"layers.0.weights": "w"})
    for options in ({"strict": False}, {"rename": {}}, {"cast": True}, {"foreign": True}):
        refused(wyrm.OptionError, "without it", path, net, SGD(0.1, net), **options)
    for options in ({"strict": False}, {"rename": {}}, {"cast": True}):
        with pytest.raises(wyrm.OptionError, match="there are none"):
            wyrm.load(path, **options)


def test_numbers_become_names(path):
    """Of parameters that numbers alone tell apart, a rename says which is which; a part of them is refused."""
    one, two = wyrm.ParameterNode(1.0), wyrm.ParameterNode(2.0)
    wyrm.save(path, [one, two])
    model = nn.Module()
    model.a, model.b = wyrm.ParameterNode(0.0), wyrm.ParameterNode(0.0)
    wyrm.load(path, model, rename={"parameter.0": "a", "parameter.1": "b"})
    assert float(model.a.value[0, 0]) == 1 and float(model.b.value[0, 0]) == 2
    with pytest.raises(wyrm.CheckpointError, match="among others"):
        wyrm.load(path, [model.a, model.b, wyrm.ParameterNode(0.0)], strict=False)
    wyrm.load(path, [one, two], rename=lambda name: name)


@pytest.mark.parametrize(("there", "here"), [("float64", "float32"), ("float32", "float64")])
def test_other_dtypes(path, there, here):
    old, new = Net(there, rng=5), Net(here)
    wyrm.save(path, old)
    refused(wyrm.CheckpointError, f"expected dtype {here}, found {there}", path, new)
    wyrm.load(path, new, cast=True)
    assert_equal(values(new), {name: value.astype(here) for name, value in values(old).items()})


def test_numbers_beyond_the_dtype(path):
    net = Net()
    arrays = {name: value.astype("float64") for name, value in values(net).items()}
    arrays["layers.1.biases"][...] = np.inf
    wyrm.save(path, {name: wyrm.ParameterNode(value, dtype="float64") for name, value in arrays.items()})
    wyrm.load(path, net, cast=True)
    assert np.isinf(net.layers[1].biases.value).all()
    arrays["layers.1.weights"][0] = 1e200
    wyrm.save(path, {name: wyrm.ParameterNode(value, dtype="float64") for name, value in arrays.items()})
    refused(wyrm.CheckpointError, "'layers.1.weights': has finite numbers that are infinite in float32", path, net, cast=True)


def test_files_of_others(path):
    net = Net()
    arrays = {f"model.{name}": np.full(value.shape, 3, "float32") for name, value in values(net).items()}
    arrays["model.layers.0.biases"] = np.array([1, 2], "float32")
    save_file(arrays, path)
    rename = {f"model.{name}": name for name in values(net)}
    refused(wyrm.CheckpointError, "foreign=True", path, net, rename=rename)
    refused(wyrm.CheckpointError, "has no parameter", path, net, foreign=True)
    saved = wyrm.load(path, net, foreign=True, rename=rename)
    assert saved.parameters.keys() == arrays.keys() and saved.run is None
    np.testing.assert_array_equal(net.layers[0].biases.value, [[1, 2]])
    save_file({**arrays, "model.layers.0.biases": np.ones(3, "float32")}, path)
    refused(wyrm.CheckpointError, r"expected shape \(1, 2\), found \(3,\)", path, net, foreign=True, rename=rename)
    save_file({name: np.ones(array.shape, "int8") for name, array in arrays.items()}, path)
    refused(wyrm.CheckpointError, "found int8", path, net, foreign=True, rename=rename)
    wyrm.load(path, net, foreign=True, rename=rename, cast=True)
    save_file({name: np.ones(array.shape, bool) for name, array in arrays.items()}, path)
    refused(wyrm.CheckpointError, "real numbers to cast, found bool", path, net, foreign=True, rename=rename, cast=True)
    save_file(arrays, path)
    assert wyrm.load(path, foreign=True).parameters.keys() == arrays.keys()


def test_a_damaged_file_is_no_file_of_others(path):
    net = Net()
    wyrm.save(path, net)
    path.write_bytes(path.read_bytes().replace(b'"checksum":', b'"checksun":'))
    refused(wyrm.CheckpointError, "none that wyrm.save wrote", path, net, foreign=True)
