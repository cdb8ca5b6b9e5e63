// The passes of one program, and what sets inputs, as functions of Python: what is called at every step, and costs less so than
// by cffi.
//
// Passes of programs that take no longer than a call keep the GIL, which costs more to leave and to take again than it is worth.
// Words that say who is at work are looked at and written while it is held.

#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <stddef.h>
#include <string.h>

#include "layout.h"
#include "table.h"

static int (*forward_pass)(intptr_t);
static int (*backward_pass)(intptr_t, double);

// The words that say whether gradients are in use are statuses beside those of reports; see wyrm/gradient_use.py, wyrm/turns.py,
// wyrm/borrowed.py.
enum { IN_USE = -2, NOT_AT_ONCE = -3, CHANGED = -4 };

// What a function is bound to: some words, and what has to be there as long as they are.
typedef struct {
    PyObject_VAR_HEAD
    PyObject *kept;
    int64_t words[];
} Bound;

static PyObject *bound_type;

static void end_bound(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Bound *)self)->kept);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

// A function bound to words, given as bytes.
static PyObject *bind_function(PyMethodDef *function, PyObject *bytes, PyObject *kept) {
    const Py_ssize_t length = PyBytes_Size(bytes);
    Bound *bound = (Bound *)PyType_GenericAlloc((PyTypeObject *)bound_type, length / 8);
    if (!bound) return 0;
    Py_INCREF(kept);
    bound->kept = kept;
    memcpy(bound->words, PyBytes_AsString(bytes), length);
    PyObject *result = PyCFunction_NewEx(function, (PyObject *)bound, 0);
    Py_DECREF(bound);
    return result;
}

static const void *words_of(PyObject *self) { return ((Bound *)self)->words; }

// --- passes ---------------------------------------------------------------------------------------------------

// What passes are bound to.
typedef struct {
    Frame *frame;
    int64_t count, adopted;
    int64_t *busy[]; // gradients' words; behind them, so many adopted arrays
} Pass;

// An array of NumPy's, behind what all objects have, as its interface for C lays it out.
typedef struct {
    void *data;
    int axes;
    const Py_ssize_t *lengths, *strides;
    PyObject *base, *dtype;
    int flags;
} Array;

// What an array that a parameter has adopted has to be; see wyrm/borrowed.py.
typedef struct {
    const Array *array;
    void *data, *dtype;
    int64_t axes, flags, lengths[2], strides[2];
} Adopted;

static int has_changed(const Adopted *expected) {
    const Array *array = expected->array;
    if (array->data != expected->data || array->dtype != expected->dtype) return 1;
    if (array->axes != expected->axes || array->flags != expected->flags) return 1;
    for (int64_t n = 0; n < expected->axes; n++)
        if (array->lengths[n] != expected->lengths[n] || array->strides[n] != expected->strides[n]) return 1;
    return 0;
}

// changed(adopted): whether an array is not what it has to be.
static PyObject *changed(PyObject *module, PyObject *bytes) {
    (void)module;
    return PyBool_FromLong(has_changed((const Adopted *)PyBytes_AsString(bytes)));
}

// Why a pass may not begin: a status, or 0.
static int refusal(const Pass *pass) {
    for (int64_t n = 0; n < pass->count; n++)
        if (*pass->busy[n]) return IN_USE;
    const Adopted *adopted = (const Adopted *)(pass->busy + pass->count);
    for (int64_t n = 0; n < pass->adopted; n++)
        if (has_changed(&adopted[n])) return CHANGED;
    return 0;
}

static void mark(const Pass *pass, int64_t busy) {
    for (int64_t n = 0; n < pass->count; n++) *pass->busy[n] = busy;
}

static Leaves *leaves_of(const Frame *frame) { return (Leaves *)(frame->leaves - offsetof(Leaves, cell)); }

// Runs a pass that works on gradients alone; the graph's words are clear while the GIL is left.
static int run(const Pass *pass, int (*call)(const Frame *, double), double weight, int is_short, Leaves *leaves) {
    int status = refusal(pass);
    if (status) return status;
    if (is_short) return call(pass->frame, weight);
    const int64_t *open = 0;
    const void *ready = 0;
    if (leaves) {
        open = leaves->open, ready = leaves->ready;
        leaves->open = 0, leaves->ready = 0;
    }
    mark(pass, 1);
    Py_BEGIN_ALLOW_THREADS
    status = call(pass->frame, weight);
    Py_END_ALLOW_THREADS
    mark(pass, 0);
    if (leaves) leaves->open = open, leaves->ready = ready;
    return status;
}

static int call_forward(const Frame *frame, double nothing) {
    (void)nothing;
    return forward_pass((intptr_t)frame);
}

static int call_backward(const Frame *frame, double weight) { return backward_pass((intptr_t)frame, weight); }

static PyObject *forward(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return PyLong_FromLong(run(words_of(self), call_forward, 0, 0, 0));
}

static PyObject *short_forward(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return PyLong_FromLong(run(words_of(self), call_forward, 0, 1, 0));
}

static PyObject *backward(PyObject *self, PyObject *number) {
    const double weight = PyFloat_AsDouble(number);
    if (weight == -1 && PyErr_Occurred()) return 0;
    return PyLong_FromLong(run(words_of(self), call_backward, weight, 0, 0));
}

static PyObject *short_backward(PyObject *self, PyObject *number) {
    const double weight = PyFloat_AsDouble(number);
    if (weight == -1 && PyErr_Occurred()) return 0;
    return PyLong_FromLong(run(words_of(self), call_backward, weight, 1, 0));
}

// --- passes that may begin at once ----------------------------------------------------------------------------

static int is_fresh(const Frame *frame) {
    const int64_t date = *frame->date;
    if (date <= 0 || frame->time->change >= date) return 0;
    const Leaves *leaves = leaves_of(frame);
    const char *dates = (const char *)(leaves->cell + leaves->capacity);
    for (const Input *input = frame->inputs; input < frame->inputs_end; input++)
        if (*(const int64_t *)(dates + input->source) >= date) return 0;
    return 1;
}

static int forward_if_ready(const Pass *pass, int is_short) {
    const Frame *frame = pass->frame;
    Leaves *leaves = leaves_of(frame);
    if (leaves->ready != frame->date) return NOT_AT_ONCE;
    *frame->date = ++frame->time->now;
    const int status = run(pass, call_forward, 0, is_short, leaves);
    if (status) *frame->date = 0;
    return status;
}

static PyObject *backward_if_fresh(const Pass *pass, PyObject *number, int is_short) {
    const double weight = PyFloat_AsDouble(number); // may run a method, so it comes first
    if (weight == -1 && PyErr_Occurred()) return 0;
    Leaves *leaves = leaves_of(pass->frame);
    if (!leaves->open || !is_fresh(pass->frame)) return PyLong_FromLong(NOT_AT_ONCE);
    return PyLong_FromLong(run(pass, call_backward, weight, is_short, leaves));
}

static PyObject *forward_at_once(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return PyLong_FromLong(forward_if_ready(words_of(self), 0));
}

static PyObject *short_forward_at_once(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return PyLong_FromLong(forward_if_ready(words_of(self), 1));
}

static PyObject *backward_at_once(PyObject *self, PyObject *number) {
    return backward_if_fresh(words_of(self), number, 0);
}

static PyObject *short_backward_at_once(PyObject *self, PyObject *number) {
    return backward_if_fresh(words_of(self), number, 1);
}

static PyObject *fresh(PyObject *self, PyObject *nothing) {
    (void)nothing;
    return PyBool_FromLong(is_fresh(((const Pass *)words_of(self))->frame));
}

// Calls what is kept, which copies an array, if the last pass of the graph was this one, and all is fresh; the graph's words are
// clear meanwhile, as NumPy leaves the GIL for large arrays.
static PyObject *copy_at_once(PyObject *self, PyObject *nothing) {
    (void)nothing;
    const Frame *frame = ((const Pass *)words_of(self))->frame;
    Leaves *leaves = leaves_of(frame);
    const void *ready = leaves->ready;
    if (ready != frame->date || !is_fresh(frame)) Py_RETURN_NONE;
    const int64_t *open = leaves->open;
    leaves->open = 0, leaves->ready = 0;
    PyObject *copy = PyObject_CallNoArgs(PyTuple_GetItem(((Bound *)self)->kept, 0));
    leaves->open = open, leaves->ready = ready;
    return copy;
}

static PyMethodDef COPY = {"copy", copy_at_once, METH_NOARGS, 0};

// copying(words, kept): what calls the first of what is kept, if a value of this pass may be read at once.
static PyObject *copying(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *words, *kept;
    if (!PyArg_ParseTuple(arguments, "SO!", &words, &PyTuple_Type, &kept)) return 0;
    return bind_function(&COPY, words, kept);
}

enum { FORWARD, BACKWARD, FORWARD_AT_ONCE, BACKWARD_AT_ONCE, FRESH, PASSES };

static PyMethodDef OF_PASSES[2][PASSES] = {
    {
        {"forward", forward, METH_NOARGS, 0},
        {"backward", backward, METH_O, 0},
        {"forward", forward_at_once, METH_NOARGS, 0},
        {"backward", backward_at_once, METH_O, 0},
        {"is_fresh", fresh, METH_NOARGS, 0},
    },
    {
        {"forward", short_forward, METH_NOARGS, 0},
        {"backward", short_backward, METH_O, 0},
        {"forward", short_forward_at_once, METH_NOARGS, 0},
        {"backward", short_backward_at_once, METH_O, 0},
        {"is_fresh", fresh, METH_NOARGS, 0},
    },
};

// bind(forward, backward, kept, short, at_once): the passes for what each is bound to; at once, with is_fresh.
static PyObject *bind(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *of[2], *kept;
    int is_short, at_once;
    if (!PyArg_ParseTuple(arguments, "SSOpp", &of[0], &of[1], &kept, &is_short, &at_once)) return 0;
    const int first = at_once ? FORWARD_AT_ONCE : FORWARD, end = at_once ? PASSES : FORWARD_AT_ONCE;
    PyObject *result = PyTuple_New(end - first);
    for (int n = first; result && n < end; n++) {
        PyObject *function = bind_function(&OF_PASSES[is_short][n], of[n != FORWARD && n != FORWARD_AT_ONCE], kept);
        if (!function || PyTuple_SetItem(result, n - first, function) < 0) Py_CLEAR(result);
    }
    return result;
}

// --- inputs ---------------------------------------------------------------------------------------------------

// What sets an input: its cell, as long as that is of the same graph; what row numbers are below; and those that the cell points
// to, `room` of them. If there are bounds, they are one bag, and as many as there are to be.
typedef struct {
    Leaves *leaves;
    int64_t graphs, number;
    const Time *time;
    int64_t limit;
    int64_t *values, room, *bounds;
    void *const *weights;
} Setter;

// The most row numbers of a list that are set at once: others are few enough to be set in another way.
enum { MOST = 256 };

static PyTypeObject *float_types[2], *integer_types[2]; // NumPy's

// Whether an input may be set now, by who calls. Nothing of Python may run between this and what it allows.
static int may_set(const Setter *setter) {
    const int64_t *owner = setter->leaves->open;
    return owner && *owner == (int64_t)PyThread_get_thread_ident() && setter->graphs == setter->leaves->graphs;
}

static PyObject *was_set(const Setter *setter) {
    ((int64_t *)(setter->leaves->cell + setter->leaves->capacity))[setter->number] = setter->time->now;
    Py_RETURN_TRUE;
}

static PyObject *refused(void) {
    PyErr_Clear();
    Py_RETURN_FALSE;
}

static PyObject *set_real(PyObject *self, PyObject *value) {
    const Setter *setter = words_of(self);
    const PyTypeObject *type = Py_TYPE(value);
    if (type != &PyFloat_Type && type != &PyLong_Type && type != float_types[0] && type != float_types[1]) Py_RETURN_FALSE;
    const double number = PyFloat_AsDouble(value);
    if (number == -1 && PyErr_Occurred()) return refused();
    if (!may_set(setter)) Py_RETURN_FALSE;
    setter->leaves->cell[setter->number].real = number;
    return was_set(setter);
}

static PyObject *set_index(PyObject *self, PyObject *value) {
    const Setter *setter = words_of(self);
    const PyTypeObject *type = Py_TYPE(value);
    if (type != &PyLong_Type && type != integer_types[0] && type != integer_types[1]) Py_RETURN_FALSE;
    const long long number = PyLong_AsLongLong(value);
    if (number == -1 && PyErr_Occurred()) return refused();
    if (number < 0 || number >= setter->limit || !may_set(setter)) Py_RETURN_FALSE;
    setter->leaves->cell[setter->number].index = number;
    return was_set(setter);
}

// From a list of whole numbers; for a bag, the list may be the only element of another.
static PyObject *set_indices(PyObject *self, PyObject *value) {
    const Setter *setter = words_of(self);
    if (Py_TYPE(value) != &PyList_Type) Py_RETURN_FALSE;
    Py_ssize_t count = PyList_Size(value);
    if (setter->bounds && count == 1 && Py_TYPE(PyList_GetItem(value, 0)) == &PyList_Type) {
        value = PyList_GetItem(value, 0);
        count = PyList_Size(value);
    }
    if (count > MOST || count > setter->room || (!setter->bounds && count < setter->room)) Py_RETURN_FALSE;
    int64_t numbers[MOST];
    for (Py_ssize_t n = 0; n < count; n++) { // of exact whole numbers, so nothing of Python runs
        PyObject *item = PyList_GetItem(value, n);
        if (Py_TYPE(item) != &PyLong_Type) Py_RETURN_FALSE;
        const long long number = PyLong_AsLongLong(item);
        if (number < 0 || number >= setter->limit) return refused(); // also if it is too large
        numbers[n] = number;
    }
    if (!may_set(setter) || (setter->weights && *setter->weights)) Py_RETURN_FALSE;
    memcpy(setter->values, numbers, count * sizeof *numbers);
    if (setter->bounds) setter->bounds[0] = 0, setter->bounds[1] = count;
    return was_set(setter);
}

static PyMethodDef SET_REAL = {"set", set_real, METH_O, 0};
static PyMethodDef SET_INDEX = {"set", set_index, METH_O, 0};
static PyMethodDef SET_INDICES = {"set", set_indices, METH_O, 0};

// setter(words, kept, kind): the function that sets an input of a kind: 0 real, 1 index, 2 indices.
static PyObject *make_setter(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *words, *kept;
    int kind;
    if (!PyArg_ParseTuple(arguments, "SOi", &words, &kept, &kind)) return 0;
    return bind_function(kind == 0 ? &SET_REAL : kind == 1 ? &SET_INDEX : &SET_INDICES, words, kept);
}

// --- the module -----------------------------------------------------------------------------------------------

// use(forward, backward, types): by their addresses, and NumPy's types of numbers that are set as they are; once.
static PyObject *use(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_ssize_t first, second;
    PyTypeObject *types[4];
    if (!PyArg_ParseTuple(
            arguments, "nnO!O!O!O!", &first, &second, &PyType_Type, &types[0], &PyType_Type, &types[1], &PyType_Type, &types[2],
            &PyType_Type, &types[3]))
        return 0;
    forward_pass = (int (*)(intptr_t))first;
    backward_pass = (int (*)(intptr_t, double))second;
    for (int n = 0; n < 4; n++) Py_INCREF(types[n]);
    memcpy(float_types, types, sizeof float_types);
    memcpy(integer_types, types + 2, sizeof integer_types);
    Py_RETURN_NONE;
}

static PyType_Slot SLOTS[] = {{Py_tp_dealloc, end_bound}, {0, 0}};
static PyType_Spec BOUND = {"wyrm_c_simd._passes.Bound", sizeof(Bound), 8, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, SLOTS};

static PyMethodDef METHODS[] = {
    {"use", use, METH_VARARGS, 0},
    {"bind", bind, METH_VARARGS, 0},
    {"copying", copying, METH_VARARGS, 0},
    {"changed", changed, METH_O, 0},
    {"setter", make_setter, METH_VARARGS, 0},
    {0, 0, 0, 0},
};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_passes", 0, -1, METHODS, 0, 0, 0, 0};

PyMODINIT_FUNC PyInit__passes(void) {
    bound_type = PyType_FromSpec(&BOUND);
    PyObject *module = bound_type ? PyModule_Create(&MODULE) : 0;
    if (module && PyModule_AddStringConstant(module, "LAYOUT", LAYOUT) < 0) Py_CLEAR(module);
    return module;
}
