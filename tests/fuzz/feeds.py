"""Feeds: data of any type, layout and shape. Either they are refused by name, or the result is that of a clean copy of them."""

from __future__ import annotations

import array
import contextlib
import io
import itertools
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sparse

import wyrm
from tests.fuzz.cases import Line, Unclear, expressions

NAME = "feeds"
BACKENDS = ("reference", "c_simd")


# --- what the cases use ---------------------------------------------------------------------------------------


class Model:
    """Real numbers (2, 3), two indices, two bags and a label; what is computed of one of them alone, by name."""

    def __init__(self, dtype: str = "float32") -> None:
        rng = np.random.default_rng(5)
        self.table = wyrm.ParameterNode(rng.normal(size=(6, 3)), name="table", dtype=dtype)
        self.numbers = wyrm.InputNode((2, 3), name="numbers", dtype=dtype)
        self.number = wyrm.InputNode((1, 1), name="number", dtype=dtype)
        self.indices = wyrm.IndexInputNode(2, name="indices")
        self.index = wyrm.IndexInputNode(name="index")
        self.bags = wyrm.BagInputNode(2, name="bags")
        self.bag = wyrm.BagInputNode(name="bag")
        looked_up = {"indices": self.table.index(self.indices), "index": self.table.index(self.index)}
        pooled = {"bags": self.table.index_sum(self.bags), "bag": self.table.index_mean(self.bag)}
        plain = {"numbers": self.numbers * self.table[:2], "number": self.number * self.table[:1]}
        self.results: dict[str, wyrm.Node] = {**looked_up, **pooled, **plain}

    def evaluate(self, name: str, data: Any, backend: str, **options: Any) -> Any:
        return wyrm.evaluate(self.results[name], {getattr(self, name): data}, backend=backend, **options)

    def fit(self, name: str, data: Any, backend: str, **options: Any) -> Any:
        loss = self.results[name].square().mean()
        options = {"shuffle": False, "seed": 1, **options}
        wyrm.fit(loss, {getattr(self, name): data}, wyrm.optim.SGD(0.1, [self.table]), backend=backend, **options)
        return self.table.value

    def set(self, name: str, data: Any, backend: str) -> Any:
        getattr(self, name).set_value(data)
        self.results[name].forward(backend=backend)
        return self.results[name].value


def by_function(name: str, data: Any, backend: str) -> Any:
    """The mean of what a function gets as an argument of that name."""
    return wyrm.evaluate(FUNCTIONS[name], {name: data}, backend=backend)


TABLE = wyrm.ParameterNode(np.arange(18.0).reshape(6, 3), name="table")
FUNCTIONS = {
    "numbers": lambda numbers: numbers.mean() * TABLE[:1],
    "number": lambda number: number.mean() * TABLE[:1],
    "indices": lambda indices: TABLE.index(indices).mean(),
    "index": lambda index: TABLE.index(index).mean(),
    "bag": lambda bag: TABLE.index_sum(bag),
    "bags": lambda bags: TABLE.index_sum(bags),
    "sequence": lambda sequence: sum(TABLE.index(x) for x in sequence) if sequence else TABLE[:1],
}


def clean(name: str, data: Any) -> Any:
    """A plain copy, made another way: contiguous, of float64 or int64; of bags, lists."""
    try:
        return _clean(name, data)
    except Exception as error:
        raise Unclear from error


def _clean(name: str, data: Any) -> Any:
    if name in ("bag", "bags"):
        if isinstance(data, wyrm.Bags):
            weights = None if data.weights is None else np.array(data.weights.tolist(), float)
            lists = [data.values[b:e].tolist() for b, e in zip(data.begins.tolist(), data.ends.tolist(), strict=True)]
            parts = None
            if weights is not None:
                parts = [weights[b:e].tolist() for b, e in zip(data.begins.tolist(), data.ends.tolist(), strict=True)]
            return wyrm.Bags.from_lists(lists, parts)
        if sparse.issparse(data):
            rows = sparse.csr_matrix(data)
            slices = [slice(*rows.indptr[n : n + 2]) for n in range(rows.shape[0])]
            return wyrm.Bags.from_lists([rows.indices[s].tolist() for s in slices], [rows.data[s].tolist() for s in slices])
        return wyrm.Bags.from_lists([[int(x) for x in np.asarray(bag).tolist()] for bag in data])
    if isinstance(data, wyrm.Ragged):
        places = data.offsets.tolist()
        return wyrm.Ragged.of([data.values[b:e].tolist() for b, e in itertools.pairwise(places)])
    if isinstance(data, wyrm.Dense):
        return wyrm.Dense(_clean("numbers", data.values))
    with contextlib.suppress(AttributeError):
        data = data.to_numpy()
    values = np.array(np.asarray(data).tolist(), object)
    return np.array(values.tolist(), np.int64 if name in ("index", "indices") else np.float64)


def same(actual: Any, expected: Any) -> None:
    """Whether two results are equal, up to rounding."""
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def readonly(values: Any) -> Any:
    values = np.array(values)
    values.flags.writeable = False
    return values


def unaligned(values: Any) -> Any:
    values = np.asarray(values)
    memory = np.zeros(values.nbytes + 1, np.uint8)[1:]
    copy = memory.view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def masked(values: Any, *places: int) -> Any:
    values = np.asarray(values)
    mask = np.zeros(values.size, bool)
    mask[list(places)] = True
    return np.ma.masked_array(values, mask.reshape(values.shape))


def changed(values: Any, place: int, value: Any) -> Any:
    """With another element, as an array of objects if need be."""
    values = np.array(values)
    if not isinstance(value, (int, float)) or (isinstance(value, int) and abs(value) >= 2**63):
        values = values.astype(object)
    values.reshape(-1)[place] = value
    return values


class Odd:
    """Something that looks like an array."""

    def __init__(self, values: Any, **attributes: Any) -> None:
        self.values_ = np.asarray(values)
        for name, value in attributes.items():
            setattr(self, name, value)

    def __array__(self, *args: Any, **options: Any) -> Any:
        return self.values_


class Raising(Odd):
    def __array__(self, *args: Any, **options: Any) -> Any:
        raise ValueError("no array here")


class Only:
    """An array that DLPack alone gives away."""

    def __init__(self, values: Any) -> None:
        self.values_ = np.asarray(values)

    def __dlpack__(self, *args: Any, **options: Any) -> Any:
        return self.values_.__dlpack__(*args, **options)

    def __dlpack_device__(self) -> Any:
        return self.values_.__dlpack_device__()


# --- how cases are written ------------------------------------------------------------------------------------

_PARTS = expressions(__file__)


def with_data(matrix: Any, value: Any) -> Any:
    matrix.data[-1:] = value
    return matrix


def with_dtype(matrix: Any, dtype: Any) -> Any:
    matrix.data = matrix.data.astype(dtype)
    matrix.indices = matrix.indices.astype(np.int64)
    return matrix


def with_indices(matrix: Any, value: Any) -> Any:
    matrix.indices[-1:] = value
    return matrix


def with_coordinates(matrix: Any, value: Any) -> Any:
    (matrix.row if value else matrix.col)[-1:] = value
    return matrix


def with_indptr(matrix: Any, value: Any) -> Any:
    matrix.indptr[1] = value
    return matrix


def _chosen(rng: np.random.Generator, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _data(rng: np.random.Generator, name: str) -> str:
    """An expression."""
    if name in ("bag", "bags"):
        text = _chosen(rng, _PARTS["bags"])
        wrappings = [_chosen(rng, _PARTS["wrappings of bags"]) for _ in range(int(rng.choice([0, 1, 1, 2])))]
        if rng.random() < 0.2:  # last, as SciPy itself does not survive what is done to some of them
            wrappings.append(_chosen(rng, _PARTS["damages of bags"]))
        for wrapping in wrappings:
            element, dtype = _chosen(rng, _PARTS["elements"]), _chosen(rng, _PARTS["dtypes"])
            text = wrapping.format(text, text, element=element, dtype=dtype)
        return text
    shape = {"numbers": "(4, 2, 3)", "number": "(4,)", "indices": "(4, 2)", "index": "(4,)", "sequence": "(4, 2)"}[name]
    whole = name in ("indices", "index", "sequence")
    count = int(np.prod([int(n) for n in shape.strip("(),").split(",")]))
    text = f"np.arange({count}).reshape{shape} % 6" if whole else f"(np.arange({float(count)}).reshape{shape} - 3) / 4"
    text = f"({text})"
    for _ in range(int(rng.choice([1, 1, 2, 2, 3]))):
        kind = rng.random()
        if kind < 0.3:
            text = f"{text}.astype({_chosen(rng, _PARTS['dtypes'])!r})"
        elif kind < 0.5:
            text = f"changed({text}, {_chosen(rng, (0, -1, 1))}, {_chosen(rng, _PARTS['elements'])})"
        else:
            text = _chosen(rng, _PARTS["wrappings"]).replace("{}", text)
    return text


def write(rng: np.random.Generator) -> list[Line]:
    """A case: some data, used in several ways."""
    name = _chosen(rng, ("numbers", "numbers", "number", "indices", "index", "bags", "bag", "sequence"))
    data, backend = _data(rng, name), _chosen(rng, BACKENDS)
    lines = [Line("setup", f"model = Model({_chosen(rng, ('float32', 'float64'))!r})")]
    uses = ["evaluate", "fit", "set", "function"] if name != "sequence" else ["function"]
    for use in rng.permutation(uses)[:2].tolist():
        lines.append(Line("data", f"name = {name!r}; data = {data}"))
        made = f"name, data, {backend!r}"
        expected = f"name, clean(name, {data}), 'reference'"
        if use == "function":
            lines += [
                Line("attempt", f"result = by_function({made})"),
                Line("then", f"same(result, by_function({expected}))"),
            ]
            continue
        options = _chosen(rng, ("", "", "", ", num_threads=2", ", batch_size=2")) if use == "fit" else ""
        if use == "set":
            expected = f"name, clean(name, [({data})[0]])[0], 'reference'"
            if name in ("bag", "bags"):
                lines.append(Line("data", f"data = data[:{2 if name == 'bags' else 1}]"))
                expected = ""
            else:
                lines.append(Line("data", "data = data[0]"))
        lines.append(Line("attempt", f"before = model.table.value; result = model.{use}({made}{options})"))
        if expected:
            lines.append(Line("then", f"same(result, Model(model.table.dtype).{use}({expected}{options}))"))
            if use == "fit":
                lines.append(Line("setup", "model = Model(model.table.dtype)"))
    return lines


def permits(error: BaseException, line: Line) -> bool:
    """A refusal has to name what was fed."""
    if isinstance(error, wyrm.NotFiniteError) or "result" not in line.text:
        return True
    return any(word in str(error) for word in ("number", "ind", "bag", "sequence", "feed", "Bags", "Ragged", "Dense"))


@contextlib.contextmanager
def planted() -> Any:
    """Arrays are taken without regard to their byte order."""
    from wyrm.training import reading

    kept = reading.is_native
    reading.is_native = lambda array: array.dtype.name in ("float32", "float64", "int32", "int64")
    try:
        yield
    finally:
        reading.is_native = kept


_ = (array, io)
