"""The elementwise kernels, as functions of single elements or of vectors: one for each, named as in the kernel table.

Beside them, what chains have (:class:`wyrm.program.Chain`): ``multiply_add``, ``multiply_subtract`` and ``copy``; and two
derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.extending import intrinsic

from wyrm_numba.arithmetic import Numbers

_Formula = Callable[..., Any]


def _element(call: Any, formula: _Formula, arity: int) -> Any:
    """A function of elements, which knows its formula."""
    element: Any = intrinsic(call)
    element.formula, element.arity = formula, arity
    return element


def _generator(formula: _Formula) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return formula(Numbers(builder, context.get_value_type(signature.return_type)), *arguments)

    return generate


def _unary(formula: _Formula) -> Any:
    return _element(lambda typingctx, a: (a(a), _generator(formula)), formula, 1)


def _binary(formula: _Formula) -> Any:
    return _element(lambda typingctx, a, b: (a(a, b), _generator(formula)), formula, 2)


def _ternary(formula: _Formula) -> Any:
    return _element(lambda typingctx, a, b, c: (a(a, b, c), _generator(formula)), formula, 3)


def _sigmoid(k: Numbers, a: Any) -> Any:
    one, e = k.constant(1.0), k.exp_of_negative(k.negate(k.absolute(a)))
    return k.divide(k.choose(k.compare(">=", a, k.constant(0.0)), one, e), k.add(one, e))


def _softplus(k: Numbers, a: Any) -> Any:
    zero = k.constant(0.0)
    above = k.choose(k.either(k.compare(">", a, zero), k.is_nan(a)), a, zero)
    return k.add(above, k.log1p(k.exp_of_negative(k.negate(k.absolute(a)))))


def _extreme(sign: str) -> _Formula:
    return lambda k, a, b: k.choose(k.either(k.compare(sign, a, b), k.is_nan(a)), a, b)


add = _binary(lambda k, a, b: k.add(a, b))
subtract = _binary(lambda k, a, b: k.subtract(a, b))
multiply = _binary(lambda k, a, b: k.multiply(a, b))
divide = _binary(lambda k, a, b: k.divide(a, b))
negate = _unary(lambda k, a: k.negate(a))
exp = _unary(lambda k, a: k.exp(a))
log = _unary(lambda k, a: k.log(a))
sqrt = _unary(lambda k, a: k.sqrt(a))
absolute = _unary(lambda k, a: k.absolute(a))
tanh = _unary(lambda k, a: k.tanh(a))
sigmoid = _unary(_sigmoid)
softplus = _unary(_softplus)
power = _binary(lambda k, a, b: k.power(a, b))
maximum = _binary(_extreme(">"))
minimum = _binary(_extreme("<"))
greater = _binary(lambda k, a, b: k.choose(k.compare(">", a, b), k.constant(1.0), k.constant(0.0)))
select = _ternary(lambda k, condition, a, b: k.choose(k.is_not(condition, k.constant(0.0)), a, b))
# Through a sigmoid y, d * y * (1 - y), and through a hyperbolic tangent y, d * (1 - y * y).
sigmoid_vjp = _binary(lambda k, d, y: k.multiply(d, k.subtract(y, k.multiply(y, y))))
tanh_vjp = _binary(lambda k, d, y: k.multiply(d, k.subtract(k.constant(1.0), k.multiply(y, y))))
copy = _unary(lambda k, a: a)
# Fused by the compiler, which may first take factors in an order in which nothing waits longer than it must.
multiply_add = _ternary(lambda k, a, b, c: k.add(k.multiply(a, b), c))
multiply_subtract = _ternary(lambda k, a, b, c: k.subtract(c, k.multiply(a, b)))
