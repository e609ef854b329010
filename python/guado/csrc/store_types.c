/* Who writes and what guards it: the bases of Exchange and Ledger, the record lock, and the
 * short way of locks of stores that nobody else wants. Twin of _ledger.py and _locks.py.
 */
#include "store.h"

#include <structmember.h>

#define TYPE_END(type)                                                                             \
    {                                                                                              \
        PyTypeObject *t = Py_TYPE(type);                                                           \
        ((freefunc)PyType_GetSlot(t, Py_tp_free))(type);                                           \
        Py_DECREF(t);                                                                              \
    }

gd_store_types gd_known;

/* ---- the record lock --------------------------------------------------------------------
 * Of code in Python. What is done here in one go needs no lock but the GIL, and only looks
 * whether Python has this one. */

int gd_mutex_lock(PyObject *o) {
    gd_mutex *m = (gd_mutex *)o;
    if (!o || Py_TYPE(o) != gd_known.mutex) {
        PyErr_SetString(PyExc_TypeError, "a guado._core.Mutex is needed");
        return -1;
    }
    if (m->held && pthread_equal(m->holder, pthread_self())) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a store was used in the middle of a write to one, by a finalizer or "
                        "weakref callback; they may not use stores");
        return -1;
    }
    if (pthread_mutex_trylock(&m->mu) != 0) {
        Py_BEGIN_ALLOW_THREADS;
        pthread_mutex_lock(&m->mu);
        Py_END_ALLOW_THREADS;
    }
    m->held = true;
    m->holder = pthread_self();
    return 0;
}

void gd_mutex_unlock(PyObject *o) {
    ((gd_mutex *)o)->held = false;
    pthread_mutex_unlock(&((gd_mutex *)o)->mu);
}

static PyObject *mutex_acquire(PyObject *self, PyObject *args) {
    gd_mutex *m = (gd_mutex *)self;
    int blocking = 1;
    double timeout = -1;
    if (!PyArg_ParseTuple(args, "|pd:acquire", &blocking, &timeout))
        return NULL;
    if (!blocking && pthread_mutex_trylock(&m->mu) != 0)
        Py_RETURN_FALSE;
    if (blocking)
        return gd_mutex_lock(self) < 0 ? NULL : Py_NewRef(Py_True);
    m->held = true;
    m->holder = pthread_self();
    Py_RETURN_TRUE;
}

static PyObject *mutex_enter(PyObject *self, PyObject *ignored) {
    return gd_mutex_lock(self) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *mutex_release(PyObject *self, PyObject *ignored) {
    gd_mutex *m = (gd_mutex *)self;
    if (!m->held) {
        PyErr_SetString(PyExc_RuntimeError, "release of a lock that nobody holds");
        return NULL;
    }
    gd_mutex_unlock(self);
    Py_RETURN_NONE;
}

static PyObject *mutex_exit(PyObject *self, PyObject *args) {
    return mutex_release(self, NULL);
}

static PyObject *mutex_new(PyTypeObject *type, PyObject *args, PyObject *named) {
    gd_mutex *m = (gd_mutex *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (m)
        pthread_mutex_init(&m->mu, NULL);
    return (PyObject *)m;
}

static void mutex_dealloc(PyObject *self) {
    pthread_mutex_destroy(&((gd_mutex *)self)->mu);
    TYPE_END(self);
}

static PyMethodDef mutex_methods[] = {
    {"acquire", mutex_acquire, METH_VARARGS, "acquire(blocking=True): without a timeout."},
    {"release", mutex_release, METH_NOARGS, NULL},
    {"__enter__", mutex_enter, METH_NOARGS, NULL},
    {"__exit__", mutex_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mutex_slots[] = {
    {Py_tp_new, mutex_new},
    {Py_tp_methods, mutex_methods},
    {Py_tp_dealloc, mutex_dealloc},
    {Py_tp_doc, "A lock for memory operations only: a wait for it cannot be interrupted."},
    {0, NULL},
};

/* ---- exchanges ----------------------------------------------------------------------------- */

static int exchange_init(PyObject *self, PyObject *args, PyObject *named) {
    static char *names[] = {"name", "generations", NULL};
    gd_exchange *x = (gd_exchange *)self;
    PyObject *name, *generations = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, named, "O|O:Exchange", names, &name, &generations))
        return -1;
    GD_SETREF(x->name, Py_NewRef(name));
    GD_SETREF(x->generations, PyDict_New());
    GD_SETREF(x->touched, PySet_New(NULL));
    GD_SETREF(x->open, PyDict_New());
    GD_SETREF(x->closed, PySet_New(NULL));
    GD_SETREF(x->pickles, PyDict_New());
    GD_SETREF(x->held, PySet_New(NULL));
    if (!x->generations || !x->touched || !x->open || !x->closed || !x->pickles || !x->held)
        return -1;
    return generations && generations != Py_None ? PyDict_Update(x->generations, generations) : 0;
}

#define EXCHANGE_FIELDS(DO)                                                                        \
    DO(name) DO(generations) DO(touched) DO(open) DO(closed) DO(pickles) DO(held) DO(extra)

static int exchange_traverse(PyObject *self, visitproc visit, void *arg) {
    gd_exchange *o = (gd_exchange *)self;
    Py_VISIT(Py_TYPE(self));
#define VISIT(field) Py_VISIT(o->field);
    EXCHANGE_FIELDS(VISIT)
    return 0;
}

static int exchange_clear(PyObject *self) {
    gd_exchange *o = (gd_exchange *)self;
#define CLEAR(field) Py_CLEAR(o->field);
    EXCHANGE_FIELDS(CLEAR)
    return 0;
}

static void exchange_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    exchange_clear(self);
    TYPE_END(self);
}

#define FIELD(type, name, flags) {#name, T_OBJECT, offsetof(type, name), flags, NULL}

static PyMemberDef exchange_members[] = {
    FIELD(gd_exchange, name, 0),
    FIELD(gd_exchange, generations, 0),
    FIELD(gd_exchange, touched, 0),
    FIELD(gd_exchange, open, 0),
    FIELD(gd_exchange, closed, 0),
    FIELD(gd_exchange, pickles, 0),
    FIELD(gd_exchange, held, 0),
    FIELD(gd_exchange, extra, 0),
    {"read_only", T_BOOL, offsetof(gd_exchange, read_only), 0, "Its answer has left."},
    {"over", T_BOOL, offsetof(gd_exchange, over), 0, "Its code is gone."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot exchange_slots[] = {
    {Py_tp_init, exchange_init},       {Py_tp_traverse, exchange_traverse},
    {Py_tp_clear, exchange_clear},     {Py_tp_dealloc, exchange_dealloc},
    {Py_tp_members, exchange_members}, {0, NULL},
};

/* ---- ledgers -------------------------------------------------------------------------------- */

static int ledger_traverse(PyObject *self, visitproc visit, void *arg) {
    gd_ledger *l = (gd_ledger *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(l->lock);
    Py_VISIT(l->outside);
    return 0;
}

static int ledger_clear(PyObject *self) {
    gd_ledger *l = (gd_ledger *)self;
    Py_CLEAR(l->lock);
    Py_CLEAR(l->outside);
    return 0;
}

static void ledger_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    ledger_clear(self);
    TYPE_END(self);
}

static PyMemberDef ledger_members[] = {
    FIELD(gd_ledger, lock, 0),
    FIELD(gd_ledger, outside, 0),
    {"limit", T_LONGLONG, offsetof(gd_ledger, limit), 0, NULL},
    {"bytes", T_LONGLONG, offsetof(gd_ledger, bytes), 0, NULL},
    {"sequence", T_ULONGLONG, offsetof(gd_ledger, sequence), 0, "Of the last commit."},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef ledger_methods[] = {
    {"_commit", gd_py_commit, METH_VARARGS,
     "_commit(exchange, seal, even=False): the half of take that seals."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ledger_slots[] = {
    {Py_tp_traverse, ledger_traverse}, {Py_tp_clear, ledger_clear},
    {Py_tp_dealloc, ledger_dealloc},   {Py_tp_members, ledger_members},
    {Py_tp_methods, ledger_methods},   {0, NULL},
};

/* ---- making the types ------------------------------------------------------------------------ */

PyTypeObject *gd_store_type(PyObject *module, const char *name, size_t size, PyType_Slot *slots,
                            unsigned long flags) {
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)size,
        .flags = Py_TPFLAGS_DEFAULT | (unsigned)flags,
        .slots = slots,
    };
    PyObject *type = PyType_FromSpec(&spec);
    /* behind "guado._core." */
    if (type && PyModule_AddObjectRef(module, name + 12, type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

/* What is known of Python, by the names of gd_store_types. */
static PyObject *setup(PyObject *module, PyObject *args, PyObject *named) {
    struct {
        const char *name;
        PyObject **at;
    } all[] = {
        {"current", &gd_known.current}, {"running_loop", &gd_known.running_loop},
        {"text", &gd_known.text},       {"encode", &gd_known.encode},
        {"adopt", &gd_known.adopt},     {"leave", &gd_known.leave},
        {"pickled", &gd_known.pickled}, {"plain", &gd_known.plain},
        {"held", &gd_known.held},       {"dict", &gd_known.dict},
        {"list", &gd_known.list},       {"set", &gd_known.set},
        {"batch", &gd_known.batch},     {"taken", &gd_known.taken},
        {"record", &gd_known.record},
    };
    for (size_t i = 0; named && i < sizeof all / sizeof *all; i++) {
        PyObject *value = PyDict_GetItemString(named, all[i].name);
        if (value)
            GD_SETREF(*all[i].at, Py_NewRef(value));
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"store_setup", (PyCFunction)(void (*)(void))setup, METH_VARARGS | METH_KEYWORDS,
     "store_setup(**known): what this half of stores has from the other one."},
    {"store_encode", gd_py_encode, METH_O, "store_encode(value): the bytes of a value."},
    {"store_read", gd_py_read, METH_O, "store_read(bytes): the records in them."},
    {"commit", gd_py_commit_now, METH_VARARGS,
     "commit(ledger, exchange, handle, head, link, more, even): _commit, sealed with the head that "
     "the request of `handle` is about to send, or alone; `more` stands behind the state."},
    {"store_encode_state", gd_py_encode_state, METH_VARARGS,
     "store_encode_state(sequence, generations, batches): the state of a commit."},
    {NULL, NULL, 0, NULL},
};

int gd_store_init(PyObject *module) {
    const unsigned long base = Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC;
    gd_known.name = PyUnicode_InternFromString("name");
    gd_known.generation = PyUnicode_InternFromString("generation");
    gd_known.mutex = gd_store_type(module, "guado._core.Mutex", sizeof(gd_mutex), mutex_slots, 0);
    gd_known.exchange = gd_store_type(module, "guado._core.ExchangeBase", sizeof(gd_exchange),
                                      exchange_slots, base);
    gd_known.ledger =
        gd_store_type(module, "guado._core.LedgerBase", sizeof(gd_ledger), ledger_slots, base);
    if (!gd_known.name || !gd_known.generation || !gd_known.mutex || !gd_known.exchange ||
        !gd_known.ledger || PyModule_AddFunctions(module, functions) < 0)
        return -1;
    return gd_store_tracked_init(module) < 0 || gd_store_locks_init(module) < 0 ||
                   gd_store_run_init(module) < 0 || gd_store_store_init(module) < 0
               ? -1
               : 0;
}
