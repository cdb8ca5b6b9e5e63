// The passes of one program as functions of Python: what is called at every step, and costs less so than by cffi.
//
// Those of programs that take no longer than a call keep the GIL, which costs more to leave
// and to take again than it is worth.

#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <stdint.h>

#include "layout.h"

static int (*forward_pass)(intptr_t);
static int (*backward_pass)(intptr_t, double);

// What a function is bound to, as a bytes object: its frame, and the words that say whether its gradients are in use.
typedef struct {
    int64_t frame, count;
    int64_t *busy[];
} Bound;

// A status: somebody is at work on a gradient; see wyrm/gradient_use.py.
enum { IN_USE = -2 };

static const Bound *bound_to(PyObject *bytes) { return (const Bound *)PyBytes_AsString(bytes); }

static int is_busy(const Bound *bound) {
    for (int64_t n = 0; n < bound->count; n++)
        if (*bound->busy[n]) return 1;
    return 0;
}

static void mark(const Bound *bound, int64_t busy) {
    for (int64_t n = 0; n < bound->count; n++) *bound->busy[n] = busy;
}

// Words are looked at and written while the GIL is held. What keeps it cannot be met by others at work.

static PyObject *forward(PyObject *bytes, PyObject *nothing) {
    (void)nothing;
    const Bound *bound = bound_to(bytes);
    if (is_busy(bound)) return PyLong_FromLong(IN_USE);
    int status;
    mark(bound, 1);
    Py_BEGIN_ALLOW_THREADS
    status = forward_pass(bound->frame);
    Py_END_ALLOW_THREADS
    mark(bound, 0);
    return PyLong_FromLong(status);
}

static PyObject *short_forward(PyObject *bytes, PyObject *nothing) {
    (void)nothing;
    const Bound *bound = bound_to(bytes);
    return PyLong_FromLong(is_busy(bound) ? IN_USE : forward_pass(bound->frame));
}

static PyObject *backward(PyObject *bytes, PyObject *number) {
    const double weight = PyFloat_AsDouble(number);
    if (weight == -1 && PyErr_Occurred()) return 0;
    const Bound *bound = bound_to(bytes);
    if (is_busy(bound)) return PyLong_FromLong(IN_USE);
    int status;
    mark(bound, 1);
    Py_BEGIN_ALLOW_THREADS
    status = backward_pass(bound->frame, weight);
    Py_END_ALLOW_THREADS
    mark(bound, 0);
    return PyLong_FromLong(status);
}

static PyObject *short_backward(PyObject *bytes, PyObject *number) {
    const double weight = PyFloat_AsDouble(number);
    if (weight == -1 && PyErr_Occurred()) return 0;
    const Bound *bound = bound_to(bytes);
    return PyLong_FromLong(is_busy(bound) ? IN_USE : backward_pass(bound->frame, weight));
}

static PyMethodDef FORWARD = {"forward", forward, METH_NOARGS, 0};
static PyMethodDef SHORT_FORWARD = {"forward", short_forward, METH_NOARGS, 0};
static PyMethodDef BACKWARD = {"backward", backward, METH_O, 0};
static PyMethodDef SHORT_BACKWARD = {"backward", short_backward, METH_O, 0};

// use(forward, backward): by their addresses, once.
static PyObject *use(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_ssize_t first, second;
    if (!PyArg_ParseTuple(arguments, "nn", &first, &second)) return 0;
    forward_pass = (int (*)(intptr_t))first;
    backward_pass = (int (*)(intptr_t, double))second;
    Py_RETURN_NONE;
}

// bind(forward, backward, short): the functions for what each is bound to.
static PyObject *bind(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *of_forward, *of_backward;
    int is_short;
    if (!PyArg_ParseTuple(arguments, "SSp", &of_forward, &of_backward, &is_short)) return 0;
    PyObject *first = PyCFunction_NewEx(is_short ? &SHORT_FORWARD : &FORWARD, of_forward, 0);
    PyObject *second = PyCFunction_NewEx(is_short ? &SHORT_BACKWARD : &BACKWARD, of_backward, 0);
    PyObject *both = first && second ? PyTuple_Pack(2, first, second) : 0;
    Py_XDECREF(first);
    Py_XDECREF(second);
    return both;
}

static PyMethodDef METHODS[] = {{"use", use, METH_VARARGS, 0}, {"bind", bind, METH_VARARGS, 0}, {0, 0, 0, 0}};
static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_passes", 0, -1, METHODS, 0, 0, 0, 0};

PyMODINIT_FUNC PyInit__passes(void) {
    PyObject *module = PyModule_Create(&MODULE);
    if (module && PyModule_AddStringConstant(module, "LAYOUT", LAYOUT) < 0) {
        Py_DECREF(module);
        return 0;
    }
    return module;
}
