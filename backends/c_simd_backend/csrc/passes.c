// The passes of one program as functions of Python: what is called at every step, and costs less so than by cffi.
//
// Each is bound to its frame's address. Those of programs that take no longer than a call keep the GIL, which costs more to leave
// and to take again than it is worth.

#define Py_LIMITED_API 0x030a0000
#include <Python.h>

#include "layout.h"

static int (*forward_pass)(intptr_t);
static int (*backward_pass)(intptr_t, double);

static intptr_t frame_of(PyObject *bound) { return (intptr_t)PyLong_AsVoidPtr(bound); }

static PyObject *forward(PyObject *bound, PyObject *nothing) {
    (void)nothing;
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = forward_pass(frame_of(bound));
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(status);
}

static PyObject *short_forward(PyObject *bound, PyObject *nothing) {
    (void)nothing;
    return PyLong_FromLong(forward_pass(frame_of(bound)));
}

static PyObject *backward(PyObject *bound, PyObject *number) {
    const double weight = PyFloat_AsDouble(number);
    if (weight == -1 && PyErr_Occurred()) return 0;
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = backward_pass(frame_of(bound), weight);
    Py_END_ALLOW_THREADS
    return PyLong_FromLong(status);
}

static PyObject *short_backward(PyObject *bound, PyObject *number) {
    const double weight = PyFloat_AsDouble(number);
    if (weight == -1 && PyErr_Occurred()) return 0;
    return PyLong_FromLong(backward_pass(frame_of(bound), weight));
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

// bind(frame, short): forward and backward.
static PyObject *bind(PyObject *module, PyObject *arguments) {
    (void)module;
    PyObject *frame;
    int is_short;
    if (!PyArg_ParseTuple(arguments, "O!p", &PyLong_Type, &frame, &is_short)) return 0;
    PyObject *first = PyCFunction_NewEx(is_short ? &SHORT_FORWARD : &FORWARD, frame, 0);
    PyObject *second = PyCFunction_NewEx(is_short ? &SHORT_BACKWARD : &BACKWARD, frame, 0);
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
