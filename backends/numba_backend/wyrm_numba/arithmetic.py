"""LLVM code for arithmetic on real numbers, or on vectors of them: written once, for both.

Numba's own functions of vectors need a library of Intel's, and become a call for each element without it. Here exponentials
and the like are polynomials in float32, which take a few instructions for all lanes; in float64 they are the C library's.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

__all__ = ["FLAGS", "Numbers"]

#: Of single operations, as in :data:`wyrm_numba.options.OPTIONS`.
FLAGS = ("reassoc", "contract")
#: Added to a number of float32, it leaves the nearest whole number in the lowest bits.
_ROUNDING = 12582912.0
_ROUNDING_BITS = 0x4B400000


class Numbers:
    """Builds operations on values of one type: float, double, or a vector of one of them."""

    def __init__(self, builder: Any, kind: Any) -> None:
        self.builder, self.kind = builder, kind
        self.lanes = kind.count if isinstance(kind, ir.VectorType) else 0
        self.single = (kind.element if self.lanes else kind) == ir.FloatType()
        #: As wide as float32; the functions of float64 are the C library's.
        self.whole = ir.VectorType(ir.IntType(32), self.lanes) if self.lanes else ir.IntType(32)

    def constant(self, value: float) -> Any:
        """A number, in each lane."""
        return ir.Constant(self.kind, [value] * self.lanes if self.lanes else value)

    def _whole_constant(self, value: int) -> Any:
        return ir.Constant(self.whole, [value] * self.lanes if self.lanes else value)

    def add(self, a: Any, b: Any, flags: tuple[str, ...] = FLAGS) -> Any:
        """A + b; without flags, exactly in this order."""
        return self.builder.fadd(a, b, flags=flags)

    def subtract(self, a: Any, b: Any, flags: tuple[str, ...] = FLAGS) -> Any:
        """A - b."""
        return self.builder.fsub(a, b, flags=flags)

    def multiply(self, a: Any, b: Any, flags: tuple[str, ...] = FLAGS) -> Any:
        """A * b."""
        return self.builder.fmul(a, b, flags=flags)

    def divide(self, a: Any, b: Any) -> Any:
        """A / b."""
        return self.builder.fdiv(a, b)

    def negate(self, a: Any) -> Any:
        """-a."""
        return self.builder.fneg(a)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """A * b + c, fused where the processor can."""
        return self._call("fmuladd", a, b, c)

    def polynomial(self, x: Any, *coefficients: float) -> Any:
        """By Horner's rule, the highest power first."""
        result = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            result = self.multiply_add(result, x, self.constant(coefficient))
        return result

    def compare(self, sign: str, a: Any, b: Any) -> Any:
        """Whether a < b and so on; never true of NaN."""
        return self.builder.fcmp_ordered(sign, a, b)

    def is_nan(self, a: Any) -> Any:
        """Whether a is NaN."""
        return self.builder.fcmp_unordered("uno", a, a)

    def either(self, a: Any, b: Any) -> Any:
        """Whether one of two conditions holds."""
        return self.builder.or_(a, b)

    def is_not(self, a: Any, b: Any) -> Any:
        """Whether a differs from b; true of NaN."""
        return self.builder.fcmp_unordered("!=", a, b)

    def choose(self, condition: Any, a: Any, b: Any) -> Any:
        """``a`` where the condition holds, else ``b``."""
        return self.builder.select(condition, a, b)

    def absolute(self, a: Any) -> Any:
        """|a|."""
        return self._call("fabs", a)

    def sqrt(self, a: Any) -> Any:
        """The square root."""
        return self._call("sqrt", a)

    def power(self, a: Any, b: Any) -> Any:
        """A ** b, by the C library."""
        return self._call("pow", a, b)

    def with_sign(self, a: Any, sign: Any) -> Any:
        """|a| with the sign of another number."""
        return self._call("copysign", a, sign)

    def exp(self, x: Any) -> Any:
        """E ** x; in float32 by a polynomial of Cephes (Moshier), to about one unit in the last place."""
        if not self.single:
            return self._call("exp", x)
        b = self.builder
        x = self._within(self._within(x, "<", 89.0), ">", -104.0)
        shifted, fraction = self._exp_of_fraction(x)
        # times 2 ** n, in two steps: n may lie outside the exponents of normal numbers
        power = b.sub(b.bitcast(shifted, self.whole), self._whole_constant(_ROUNDING_BITS))
        half = b.ashr(power, self._whole_constant(1))
        return self.multiply(
            self.multiply(fraction, self._power_of_two(half), flags=()), self._power_of_two(b.sub(power, half)), flags=()
        )

    def exp_of_negative(self, x: Any) -> Any:
        """E ** x for x from minus infinity to 0, which takes fewer steps."""
        if not self.single:
            return self._call("exp", x)
        shifted, fraction = self._exp_of_fraction(self._within(x, ">", -104.0))
        scaled = self.multiply(fraction, self._power_of_two(self.builder.bitcast(shifted, self.whole), 64), flags=())
        return self.multiply(scaled, self.constant(2.0**-64), flags=())

    def _within(self, x: Any, sign: str, bound: float) -> Any:
        """``x`` where it is less or greater than a bound, or NaN; else the bound."""
        beyond = self.compare(">" if sign == "<" else "<", x, self.constant(bound))
        return self.choose(beyond, self.constant(bound), x)

    def _reduced(self, x: Any) -> tuple[Any, Any]:
        """A number with n, the multiple of ln 2 nearest to x, in its lowest bits; and x - n ln 2."""
        shifted = self.multiply_add(x, self.constant(1.44269504088896341), self.constant(_ROUNDING))
        n = self.subtract(shifted, self.constant(_ROUNDING), flags=())
        r = self.multiply_add(n, self.constant(-0.693359375), x)
        return shifted, self.multiply_add(n, self.constant(2.12194440e-4), r)

    def _exp_of_fraction(self, x: Any) -> tuple[Any, Any]:
        """A number with n in its lowest bits, and E ** (x - n ln 2)."""
        shifted, r = self._reduced(x)
        return shifted, self.multiply_add(self._exp_polynomial(r), self.multiply(r, r), self.add(r, self.constant(1.0)))

    def _exp_polynomial(self, r: Any) -> Any:
        """(E ** r - 1 - r) / r ** 2, for r from -ln 2 / 2 to ln 2 / 2."""
        return self.polynomial(
            r, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1
        )

    def _power_of_two(self, n: Any, more: int = 0) -> Any:
        """2 ** (n + more); only the lowest nine bits of n count."""
        b = self.builder
        exponent = b.add(b.shl(n, self._whole_constant(23)), self._whole_constant((127 + more) << 23))
        return b.bitcast(exponent, self.kind)

    def log(self, x: Any) -> Any:
        """The natural logarithm; in float32 by a polynomial of Cephes."""
        if not self.single:
            return self._call("log", x)
        b = self.builder
        tiny = self.compare("<", x, self.constant(1.17549435e-38))
        scaled = self.choose(tiny, self.multiply(x, self.constant(8388608.0), flags=()), x)
        bits = b.bitcast(scaled, self.whole)
        power = b.ashr(b.sub(bits, self._whole_constant(0x3F3504F3)), self._whole_constant(23))
        mantissa = b.bitcast(b.sub(bits, b.shl(power, self._whole_constant(23))), self.kind)
        e = self.subtract(b.sitofp(power, self.kind), self.choose(tiny, self.constant(23.0), self.constant(0.0)))
        f = self.subtract(mantissa, self.constant(1.0), flags=())
        square = self.multiply(f, f)
        p = self.polynomial(
            f,
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        )
        y = self.multiply(self.multiply(p, f), square)
        y = self.multiply_add(e, self.constant(-2.12194440e-4), y)
        y = self.multiply_add(square, self.constant(-0.5), y)
        y = self.multiply_add(e, self.constant(0.693359375), self.add(f, y, flags=()))
        zero, infinity = self.constant(0.0), self.constant(float("inf"))
        y = self.choose(self.compare("==", x, infinity), infinity, y)
        y = self.choose(self.compare("==", x, zero), self.constant(float("-inf")), y)
        return self.choose(self.either(self.is_nan(x), self.compare("<", x, zero)), self.constant(float("nan")), y)

    def log1p(self, u: Any) -> Any:
        """ln(1 + u) for u from 0 to 1: what rounding takes from 1 + u is put back."""
        if not self.single:
            return self._each("log1p", u)
        one = self.constant(1.0)
        w = self.add(one, u, flags=())
        lost = self.subtract(u, self.subtract(w, one, flags=()), flags=())
        return self.add(self.log(w), self.divide(lost, w), flags=())

    def tanh(self, x: Any) -> Any:
        """The hyperbolic tangent; in float32 as m / (m + 2), where m = E ** 2|x| - 1 has no cancellation near 0."""
        if not self.single:
            return self._each("tanh", x)
        size = self.absolute(x)
        shifted, r = self._reduced(self._within(self.add(size, size), "<", 20.0))  # from 18.03 on, it is 1
        power = self._power_of_two(self.builder.bitcast(shifted, self.whole))
        m = self.multiply_add(self._exp_polynomial(r), self.multiply(r, r), r)
        m = self.multiply_add(m, power, self.subtract(power, self.constant(1.0)))
        return self.with_sign(self.divide(m, self.add(m, self.constant(2.0))), x)

    def _call(self, name: str, *arguments: Any) -> Any:
        """An intrinsic function of LLVM."""
        element = "f32" if self.single else "f64"
        full = f"llvm.{name}.v{self.lanes}{element}" if self.lanes else f"llvm.{name}.{element}"
        return self.builder.call(self._function(full, self.kind, len(arguments)), arguments)

    def _each(self, name: str, a: Any) -> Any:
        """A function of the C library, lane by lane."""
        element = self.kind.element if self.lanes else self.kind
        function = self._function(name, element, 1)
        if not self.lanes:
            return self.builder.call(function, [a])
        result = a
        for lane in range(self.lanes):
            place = ir.Constant(ir.IntType(32), lane)
            value = self.builder.call(function, [self.builder.extract_element(a, place)])
            result = self.builder.insert_element(result, value, place)
        return result

    def _function(self, name: str, kind: Any, arity: int) -> Any:
        module = self.builder.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(kind, [kind] * arity), name)
