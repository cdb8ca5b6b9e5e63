"""How ops are written: the operators, methods and functions of wyrm/frontend/ops whose code refers to an op."""

from __future__ import annotations

import inspect
import sys
from types import FunctionType, ModuleType

import wyrm
from wyrm.frontend.op import Op, Operand

__all__ = ["operand_names", "written"]

#: Operators, with the op's operands in place of the braces.
_OPERATORS = {
    "__add__": "{0} + {1}",
    "__sub__": "{0} - {1}",
    "__mul__": "{0} * {1}",
    "__truediv__": "{0} / {1}",
    "__pow__": "{0} ** {1}",
    "__matmul__": "{0} @ {1}",
    "__neg__": "-{0}",
    "__abs__": "abs({0})",
    "__gt__": "{0} > {1}",
    "__lt__": "{0} < {1}",
    "__ge__": "{0} >= {1}",
    "__le__": "{0} <= {1}",
    "__eq__": "{0} == {1}",
    "__ne__": "{0} != {1}",
    "__getitem__": "{0}[rows, cols]",
}


#: Ops whose nodes have a class of their own.
_CLASSES = {"sample": "wyrm.SampledIndexNode(rows, count)", "index_slice": "index[rows]"}


def operand_names(op: Op, count: int) -> list[str]:
    """What the op's forward pass calls its operands."""
    _, *parameters = inspect.signature(op.forward).parameters.values()
    if op.variadic:
        named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        return [*named, "a", "b", "c", "d"][:count]
    return [parameter.name for parameter in parameters[:count]]


def module_of(op: Op) -> ModuleType:
    """The module in which an op is defined: its family."""
    return sys.modules[op.forward.__module__]


def written(op: Op, names: list[str]) -> list[str]:
    """The ways to write an op down; ``part of ...`` what uses it for something else."""
    if op.name in _CLASSES:
        return [_CLASSES[op.name]]
    module = module_of(op)
    (constant,) = (name for name, value in vars(module).items() if value is op)
    functions = {n: f for n, f in vars(module).items() if isinstance(f, FunctionType) and f.__module__ == module.__name__}
    using = {name for name, function in functions.items() if constant in function.__code__.co_names}
    forms, own = [], False
    for name, method in _methods(module).items():
        refers = {constant, *using} & set(method.__code__.co_names)
        if name in _OPERATORS:
            # an operator uses the op, or a method that does
            if refers or _calls(method, op.name, module):
                forms.append(_OPERATORS[name].format(*names))
                own = True
        elif refers and not name.startswith("_"):
            forms.append(f"{names[0]}.{name}({_parameters(method, names[1:])})")
            own |= name in (op.name, f"scalar_{op.name}")
    for name in sorted(using):
        if not name.startswith("_"):
            where = "wyrm." if name in wyrm.__all__ else ""
            forms.append(f"{where}{name}({_parameters(functions[name], names)})")
            own |= name == op.name
    return forms if own else [f"part of a.{form.split('.', 1)[1]}" for form in forms]


def _methods(module: ModuleType) -> dict[str, FunctionType]:
    classes = [c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Operand) and c is not Operand]
    return {name: member for c in classes for name, member in vars(c).items() if isinstance(member, FunctionType)}


def _calls(method: FunctionType, name: str, module: ModuleType) -> bool:
    """Whether an operator leaves its work to the method of that name."""
    return method.__name__ == "__getitem__" and name in method.__code__.co_names and name in _methods(module)


def _parameters(function: FunctionType, operands: list[str]) -> str:
    """The parameters as a call has them: those without default by the operands' names, where there are as many."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    given = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    called = dict(zip(given, operands, strict=True)) if len(given) == len(operands) else {}
    texts = []
    for parameter in parameters:
        default = parameter.default
        if default is inspect.Parameter.empty:
            texts.append(called.get(parameter.name, parameter.name))
        else:
            texts.append(f"{parameter.name}={'...' if isinstance(default, slice) else repr(default)}")
    return ", ".join(texts)
