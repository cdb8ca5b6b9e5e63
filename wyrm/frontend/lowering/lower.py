"""The whole way from a trace to a program, for each purpose, and the cache of programs.

``interactive``
    Every node's value is kept. Gradients are added to the parameters' gradient buffers.
``train``
    One run is one step: the gradients are values like others, and the rule is applied where they end. The row-sparse
    gradient of a parameter that is looked up once, by one index, is never gathered: its row is updated at once.
``accumulate``
    One run of several that make a step: gradients are added to the gradient buffers, and the rule is applied by a program of
    its own (:func:`.updates.lower_update`). Values are not kept.
``evaluate``
    Forward only, and only what the roots need; nothing random.

What optimizers do by themselves, without a structure, is in :mod:`.updates`.
"""

from __future__ import annotations

from collections.abc import Sequence

from wyrm import sound
from wyrm.frontend.lowering.differentiate import Share, differentiate
from wyrm.frontend.lowering.draws import arranged
from wyrm.frontend.lowering.emitter import Emitter, part_options
from wyrm.frontend.lowering.fuse import fused, fused_between_draws, fused_step
from wyrm.frontend.lowering.guard import guarded, looked_at, looked_at_closely
from wyrm.frontend.lowering.instructions import instructions, live
from wyrm.frontend.lowering.layout import Layout
from wyrm.frontend.lowering.narrow import narrow
from wyrm.frontend.lowering.skip import skippable
from wyrm.frontend.lowering.trace import Trace
from wyrm.frontend.lowering.updates import Training, Updates, missed
from wyrm.frontend.lowering.value import Value
from wyrm.frontend.op import BAG, INPUT, INPUTS, PARAMETER, RANDOM, Op
from wyrm.frontend.recent import Recent
from wyrm.program import InputSlot, ParameterSlot, Program, Purpose, Rule, Shape, Slot

__all__ = ["lower", "lower_shares"]

#: Programs by what they follow from.
_CACHE: Recent[object, Program] = Recent()
#: Where indices that look up no table have to end.
_NO_LIMIT = 2**63 - 1


def lower(
    trace: Trace,
    purpose: Purpose,
    optional_kernels: frozenset[str],
    training: tuple[Training | None, ...] = (),
    lazy: tuple[Rule | None, ...] = (),
    evaluating: bool = False,
    share: float | None = 1.0,
    checked: bool = False,
    large: bool = False,
    closely: bool = False,
) -> Program:
    """The program of a trace.

    Parameters
    ----------
    trace
        What to compute.
    purpose
        See the module.
    optional_kernels
        Those that the backend declares.
    training
        For ``train`` and ``accumulate``, what happens to each parameter of the trace, in order; ``None``: it stays as it is.
        For ``train`` there may be further ones, of parameters that the trace has not: steps pass over them.
    lazy
        The rule by which rows of each parameter may be behind; ``None``: they are not. If this is left out, those of
        ``training`` that have a ``catch_up``.
    evaluating
        Whether to leave out what is random in training.
    share
        For ``train`` and ``accumulate``, what the loss counts for in a step: its gradient is multiplied with it. ``None``: a
        number for each run, which comes as an input.
    checked
        For ``train`` and ``accumulate``, whether the loss is to be NaN if a gradient is not finite (:mod:`.guard`): it may
        be, too, if one is just very large. For ``interactive``, whether there is to be such a number beside it.
    large
        Whether inputs may be larger than :mod:`.bounds` takes them to be.
    closely
        Whether to look at each gradient itself, which takes longer: the loss is NaN, then, only if a gradient is not finite.
    """
    key = (trace, purpose, optional_kernels, training, lazy, evaluating, share, checked, large, closely)
    evaluating = evaluating or purpose == "evaluate"
    options = training, lazy, evaluating, share, checked, large, closely
    return _CACHE.made(key, lambda: _Lowering(trace, purpose, optional_kernels, *options).program())


def lower_shares(trace: Trace) -> tuple[Program, list[tuple[int, int, Slot, Slot]]]:
    """A program for ``interactive`` that keeps what each operand gets of a gradient, to be looked at.

    Returns
    -------
    tuple
        The program, made of required kernels; and in the order in which they are computed, for each share the record of the
        result and that of the operand, and where the gradient of the one and the share of the other are.
    """
    lowering = _Lowering(trace, "interactive", frozenset(), (), (), False, 1.0, False, False, False)
    lowering.shares = []
    program = lowering.program()
    return program, lowering.share_slots


class _Lowering:
    def __init__(
        self,
        trace: Trace,
        purpose: Purpose,
        optional_kernels: frozenset[str],
        training: tuple[Training | None, ...],
        lazy: tuple[Rule | None, ...],
        evaluating: bool,
        share: float | None,
        checked: bool,
        large: bool,
        closely: bool,
    ) -> None:
        self.trace, self.purpose, self.training = trace, purpose, training
        self.values: list[Value] = []
        self.parameters = {number: p for p, number in enumerate(trace.leaves(PARAMETER))}
        self.uses = [ParameterSlot(trace.records[number].shape) for number in self.parameters]
        self.lazy = lazy or tuple(how.rule if how is not None and how.rule.catch_up else None for how in training)
        #: What is updated: the values of parameters, of which ops may see up-to-date copies.
        self.tables: dict[int, Value] = {}
        in_place = purpose != "interactive" and "lookup" in optional_kernels
        tables = {p for p in self.parameters.values() if in_place and not (self.lazy and self.lazy[p])}
        self.k = Emitter(optional_kernels, evaluating, tables)
        self.fuses = "fused" in optional_kernels
        self.repeats = False  # whether there are draws that are repeated
        self.effects: list[Value] = []
        self.inputs: list[Value] = []
        self.outputs: dict[int, Value] = {}
        self.updates = Updates(self.k)
        self.share, self.checked, self.large, self.closely = share, checked, large, closely
        self.shares: list[Share] | None = None
        self.share_slots: list[tuple[int, int, Slot, Slot]] = []
        self.forward_end = 0  # how many calls are made before the loss is known
        self.seed: Value | None = None
        self.look: Value | None = None
        self.contributions: dict[int, list[Value]] = {}

    def program(self) -> Program:
        k, trace = self.k, self.trace
        self._forward()
        self.forward_end = len(k.values)
        if self.purpose != "evaluate":
            self._backward()
        ends = [self.forward_end, len(k.values)]
        if self.purpose == "train":
            self._apply_rules()
        ends.append(len(k.values))
        roots = [self.outputs.get(root, self.values[root]) for root in trace.roots]
        kept = {n: value for n, value in enumerate(self.values) if value.kernel != "current" or n in trace.roots}
        shares = self._shares()
        results = list(kept.values()) if self.purpose == "interactive" else roots
        results = [*results, *(value for share in shares for value in share[2:]), *([self.look] if self.look else [])]
        found = [*self.inputs, *(value for value, _ in self.updates.schedules), *k.literals.values()]
        found += [self.seed] if self.seed else []
        found += [k.outcome(draw) for draw in k.draws]
        needed = live(k.values, [*results, *self.effects])
        narrow(k, [v for v in k.values if v in needed], [*results, *self.effects])
        begins = [0, *ends]
        sections = [[v for v in k.values[a:b] if v in needed] for a, b in zip(begins, ends, strict=False)]
        sections[0] = arranged(k, sections[0])
        skip = skippable(k, sections[1] + sections[2]) if self.purpose == "train" else None
        if self.fuses:
            sections = self._fused(sections, roots, results)
        layout = Layout(trace.dtype, sections, [*found, *results])
        forward, backward, update = (instructions(layout, section) for section in sections)
        leaves = trace.leaves(*INPUTS)
        slots = [self._input_slot(layout, leaf, value) for leaf, value in zip(leaves, self.inputs, strict=True)]
        slots += [InputSlot("schedule", layout[value], rule=rule) for value, rule in self.updates.schedules]
        if self.seed and self.purpose != "interactive":
            slots.append(InputSlot("schedule", layout[self.seed]))
        outputs = tuple(layout[root] for root in roots if root.place[:1] != ("bag",))  # whose value nobody computes
        lacking = [ParameterSlot(how.shape if how else (0, 0)) for how in self.training[len(self.uses) :]]
        program = Program(
            self.purpose,
            trace.dtype,
            tuple(layout.buffers),
            layout.lengths[0],
            layout.lengths[1],
            tuple(slots),
            (*self.uses, *lacking),
            tuple((number, layout[value]) for number, value in k.literals.items()),
            layout[self.seed] if self.seed and self.purpose == "interactive" else None,
            forward,
            backward,
            update,
            outputs,
            {n: layout[v] for n, v in kept.items()} if self.purpose == "interactive" else {},
            layout[skip] if skip else None,
            layout[self.look] if self.look else None,
        )
        self.share_slots = [(record, operand, layout[gradient], layout[part]) for record, operand, gradient, part in shares]
        for draw in k.draws:  # it depends on its end, which depends on it: without a cycle, values are gone with the emitter
            draw.operands = draw.body = ()
        return sound.trusted(program)

    def _forward(self) -> None:
        """Record the forward pass."""
        k = self.k
        for number, record in enumerate(self.trace.records):
            if isinstance(record.op, Op):
                value = record.op.forward(k, *[self.values[n] for n in record.operands], **dict(record.attributes))
            elif record.op is PARAMETER:
                value = self._parameter(self.parameters[number], record.shape)
            else:
                assert record.op in INPUTS
                kind = "input" if record.op is INPUT else "bag" if record.op is BAG else "index"
                value = Value("", shape=record.shape, place=(kind, len(self.inputs)))
                self.inputs.append(value)
            value.uses += 1  # the node's own: nothing is accumulated onto it
            self.values.append(value)
        if self.purpose == "interactive":  # in runs, examples for which nothing is left to draw do not occur
            for root in self.trace.roots:
                op = self.trace.records[root].op
                if isinstance(op, Op) and not op.indices:
                    self.values[root] = k.where_drawn(self.values[root])
        self.effects += [until for until in k.draws.values() if until is not None]
        if any(until is not None for until in k.draws.values()):
            self.repeats = True
            k.optional_kernels -= {"fused"}  # updates stay whole, so that they can be seen to change nothing
        for root in self.trace.roots:
            value = self.values[root]
            if (value.viewed or value).place[:1] == ("row",):  # results are read after the parameters have changed
                self.outputs[root] = k.call("copy", value, shape=value.shape)

    def _parameter(self, p: int, shape: Shape) -> Value:
        """The value of a parameter as ops see it: if rows may be behind, a copy in which none is. Look-ups need its rows."""
        table = self.tables[p] = Value("", shape=shape, place=("value", p))
        rule = self.lazy[p] if self.lazy else None
        return table if rule is None else self.k.current(*missed(p, shape, rule))

    def _backward(self) -> None:
        """Record the backward pass and what becomes of the parameters' gradients."""
        k, records = self.k, self.trace.records
        root = self.trace.roots[0]
        if not records[root].needs_gradient:
            return
        if self.purpose == "interactive" or self.share is None:
            self.seed = Value("", shape=(1, 1), place=("seed",))
            seed = k.where_drawn(self.seed) if self.purpose == "interactive" else self.seed
        else:
            seed = k.literal(self.share)
        self.contributions = differentiate(k, records, self.values, root, seed, self.trace.dtype, self.shares)
        if self.checked:
            self._guard(root)
        for number, parts in self.contributions.items():
            p = self.parameters[number]
            if self.training and self.training[p] is None:
                continue
            row_sparse = all(part.kernel == "rows" for part in parts)
            if row_sparse and not self._at_once(parts):
                self._gather(p, parts)
            elif self.purpose != "train":
                target = Value("", shape=records[number].shape, place=("gradient", p))
                for part in k.products_over_time(parts):
                    target = k.accumulate(target, part)
                    self._put_off(target)
                    self.effects.append(target)
                self.uses[p] = ParameterSlot(target.shape, "dense")
            elif not row_sparse:
                self.contributions[number] = [k.total(parts)]

    def _put_off(self, effect: Value) -> None:
        """Let a call that changes a gradient come after the loss is known, though what it adds was recorded before."""
        values = self.k.values
        if self.checked and self.purpose != "interactive" and effect in values[: self.forward_end]:
            values.remove(effect)
            values.append(effect)
            self.forward_end -= 1

    def _shares(self) -> list[tuple[int, int, Value, Value]]:
        """What is kept of each share: of those of some rows, these."""
        parts = [share.part.operands[1] if share.part.kernel == "rows" else share.part for share in self.shares or ()]
        return [(s.record, s.operand, s.gradient, part) for s, part in zip(self.shares or (), parts, strict=True)]

    def _guard(self, root: int) -> None:
        """Let the loss be NaN if a gradient is not finite, before anything is done with the gradients."""
        gradients = []
        for number, parts in self.contributions.items():
            if not self.training or self.training[self.parameters[number]] is not None:
                if not all(part.kernel == "rows" for part in parts):
                    parts = self.contributions[number] = self.k.products_over_time(parts)
                gradients += parts
        if self.purpose == "interactive":
            self.look = looked_at(self.k, self.trace.dtype, self.values[root], self.inputs, gradients)
            self.look.uses += 1
            return
        loss = self.values[root]
        if self.closely:
            known = looked_at_closely(self.k, loss, gradients)
        else:
            known = guarded(self.k, self.trace.dtype, loss, gradients, self.large)
        if known is not loss:
            known.uses += 1
            self.outputs[root] = known
            self.forward_end = len(self.k.values)

    def _fused(self, sections: list[list[Value]], roots: list[Value], results: list[Value]) -> list[list[Value]]:
        """The sections with elementwise calls fused; those of a training step as one, unless it repeats draws."""
        if self.purpose == "train" and not self.repeats:
            forward, rest = fused_step([v for section in sections for v in section], roots)
            return [forward, [], rest]
        read = {value.viewed or value for value in (*results, *self.effects)}
        for section in sections:
            own = set(section)
            read.update([o for v in section for o in v.read if o not in own])
        first, *others = sections
        forward = fused_between_draws(first, read) if self.repeats else fused(first, read)
        return [forward, *(fused(section, read) for section in others)]

    def _gather(self, p: int, parts: Sequence[Value]) -> None:
        """Let the rows of a parameter's gradient be appended to its buffer."""
        target = Value("", shape=self.uses[p].shape, place=("gradient", p))
        rows, bags = 0, []
        for part in parts:
            self.effects.append(self.k.effect(part.attributes["accumulate"], target, *part.operands, **part_options(part)))
            index = part.operands[0]
            if index.place[:1] == ("bag",):
                bags.append(index.place[1])
            else:
                rows += index.shape[0]
        self.uses[p] = ParameterSlot(target.shape, "rows", rows, tuple(bags))

    def _at_once(self, parts: Sequence[Value]) -> bool:
        """Whether the one row that a step touches can be updated without gathering a gradient."""
        if self.purpose != "train" or len(parts) > 1:
            return False
        index = parts[0].operands[0]
        return index.place[:1] != ("bag",) and index.shape[0] == 1

    def _apply_rules(self) -> None:
        """Record the updates."""
        for number, parts in self.contributions.items():
            p = self.parameters[number]
            training = self.training[p]
            if training is None:
                continue
            value = self.tables[p]
            if self.uses[p].gradient == "rows":
                gradient = Value("", shape=value.shape, place=("gradient", p))
                self.updates.add("update_gradient", p, value, training, gradient)
            elif parts[0].kernel == "rows":
                self.updates.add("update_rows", p, value, training, *parts[0].operands)
            else:
                self.updates.add("update", p, value, training, parts[0])
        for p, training in enumerate(self.training):
            if training is not None:
                self.updates.tick(p, self.uses[p].shape if p < len(self.uses) else training.shape, training)
        self.effects += self.updates.emit()

    def _input_slot(self, layout: Layout, number: int, value: Value) -> InputSlot:
        leaf = self.trace.records[number].op
        slot, limit = layout[value], self.k.limits.get(value, _NO_LIMIT)
        if leaf is INPUT:
            return InputSlot("dense", slot)
        if leaf is BAG:
            return InputSlot("bag", slot, limit)
        return InputSlot("random", slot) if leaf is RANDOM else InputSlot("index", slot, limit)
