/* Locks of stores where nobody waits: taken and given back in one go. Whoever must wait
 * does so in _locks.py, with `changed`; while code there has it, nothing is done here.
 */
#include "store.h"

#include <structmember.h>

#define FAST(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL
#define FIELD(type, name) {#name, T_OBJECT, offsetof(type, name), 0, NULL}

typedef struct {
    PyObject_HEAD PyObject *store, *exchange, *timeout;
} gd_held;

static bool is_exchange(PyObject *o) {
    return PyObject_TypeCheck(o, gd_known.exchange);
}

static gd_locks *locks_of(gd_lock *l) {
    return l->locks && PyObject_TypeCheck(l->locks, gd_known.locks) ? (gd_locks *)l->locks : NULL;
}

/* ---- taking and giving back ----------------------------------------------------------------- */

static int take(gd_lock *l, PyObject *o) {
    gd_locks *all = locks_of(l);
    gd_exchange *x = (gd_exchange *)o;
    if (!all || !is_exchange(o))
        return GD_UNFIT;
    PyObject *loop = PyObject_CallNoArgs(gd_known.running_loop);
    if (!loop)
        return GD_FAILED;
    int rc = GD_UNFIT;
    if (!all->mutex || gd_mutex_held(all->mutex)) {
        ; /* somebody looks at the owners right now */
    } else if (l->owner == o) {
        l->depth++;
        rc = GD_DONE;
    } else if (!gd_is(l->owner) && (!gd_is(l->queue) || PyObject_Size(l->queue) == 0)) {
        rc = PySet_Add(x->held, (PyObject *)l) < 0 ? GD_FAILED : GD_DONE;
    }
    if (rc != GD_DONE || l->owner == o) {
        Py_DECREF(loop);
        return rc;
    }
    PyObject *before = l->loop, *nobody = l->owner;
    l->owner = Py_NewRef(o);
    l->loop = loop;
    l->depth = 1;
    l->token = ++all->token;
    Py_XDECREF(before);
    Py_XDECREF(nobody);
    return GD_DONE;
}

static int give_back(gd_lock *l, PyObject *o) {
    gd_locks *all = locks_of(l);
    if (!all || !all->mutex || gd_mutex_held(all->mutex) || !is_exchange(o))
        return GD_UNFIT;
    if (l->owner != o)
        return GD_DONE; /* it was ended meanwhile */
    if (l->depth > 1) {
        l->depth--;
        return GD_DONE;
    }
    if (!all->waiting || PyDict_Size(all->waiting) != 0)
        return GD_UNFIT; /* who waits must be told */
    if (PySet_Discard(((gd_exchange *)o)->held, (PyObject *)l) < 0)
        return GD_FAILED;
    PyObject *loop = l->loop;
    l->owner = l->loop = NULL;
    l->depth = 0;
    Py_XDECREF(loop);
    Py_DECREF(o);
    return GD_DONE;
}

static PyObject *verdict(int rc) {
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

static PyObject *lock_take(PyObject *self, PyObject *exchange) {
    return verdict(take((gd_lock *)self, exchange));
}

static PyObject *lock_give_back(PyObject *self, PyObject *exchange) {
    return verdict(give_back((gd_lock *)self, exchange));
}

/* ---- with store.lock() ------------------------------------------------------------------------
 */

static gd_lock *lock_of(gd_held *h) {
    gd_store *s = (gd_store *)h->store;
    return s && s->lock && PyObject_TypeCheck(s->lock, gd_known.lock) ? (gd_lock *)s->lock : NULL;
}

static PyObject *held_enter(PyObject *self, PyObject *ignored) {
    gd_held *h = (gd_held *)self;
    gd_lock *l = lock_of(h);
    PyObject *x = gd_current();
    if (!x)
        return NULL;
    int rc = GD_UNFIT;
    if (l && is_exchange(x) && !((gd_exchange *)x)->over)
        rc = take(l, x);
    if (rc == GD_DONE)
        GD_SETREF(h->exchange, Py_NewRef(x));
    Py_DECREF(x);
    if (rc == GD_UNFIT)
        return PyObject_CallMethod(self, "_enter", NULL);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *held_exit(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    gd_held *h = (gd_held *)self;
    gd_lock *l = lock_of(h);
    int rc = l && h->exchange ? give_back(l, h->exchange) : GD_UNFIT;
    if (rc == GD_UNFIT)
        return PyObject_CallMethod(self, "_exit", NULL);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *gd_store_lock(PyObject *self, PyObject *args, PyObject *named) {
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    PyTypeObject *type = (PyTypeObject *)gd_known.held;
    if ((PyTuple_Size(args) > 0 || named) &&
        !PyArg_ParseTupleAndKeywords(args, named, "|O:lock", names, &timeout))
        return NULL;
    gd_held *h = (gd_held *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (h) {
        h->store = Py_NewRef(self);
        h->timeout = Py_XNewRef(timeout);
    }
    return (PyObject *)h;
}

/* ---- types --------------------------------------------------------------------------------------
 */

#define TRAVERSE_AND_CLEAR(kind, FIELDS)                                                           \
    static int kind##_traverse(PyObject *self, visitproc visit, void *arg) {                       \
        gd_##kind *o = (gd_##kind *)self;                                                          \
        Py_VISIT(Py_TYPE(self));                                                                   \
        FIELDS(VISIT)                                                                              \
        return 0;                                                                                  \
    }                                                                                              \
    static int kind##_clear(PyObject *self) {                                                      \
        gd_##kind *o = (gd_##kind *)self;                                                          \
        FIELDS(CLEAR)                                                                              \
        return 0;                                                                                  \
    }                                                                                              \
    static void kind##_dealloc(PyObject *self) {                                                   \
        PyTypeObject *type = Py_TYPE(self);                                                        \
        PyObject_GC_UnTrack(self);                                                                 \
        kind##_clear(self);                                                                        \
        ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);                                        \
        Py_DECREF(type);                                                                           \
    }
#define VISIT(field) Py_VISIT(o->field);
#define CLEAR(field) Py_CLEAR(o->field);
#define LOCKS_FIELDS(DO) DO(mutex) DO(waiting)
#define LOCK_FIELDS(DO) DO(locks) DO(name) DO(owner) DO(loop) DO(queue)
#define HELD_FIELDS(DO) DO(store) DO(exchange) DO(timeout)

TRAVERSE_AND_CLEAR(locks, LOCKS_FIELDS)
TRAVERSE_AND_CLEAR(lock, LOCK_FIELDS)
TRAVERSE_AND_CLEAR(held, HELD_FIELDS)

static PyMemberDef locks_members[] = {
    {"_mutex", T_OBJECT, offsetof(gd_locks, mutex), 0, NULL},
    FIELD(gd_locks, waiting),
    {"token", T_ULONGLONG, offsetof(gd_locks, token), 0, "The last one that was given."},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef lock_members[] = {
    FIELD(gd_lock, locks),
    FIELD(gd_lock, name),
    FIELD(gd_lock, owner),
    FIELD(gd_lock, loop),
    FIELD(gd_lock, queue),
    {"token", T_ULONGLONG, offsetof(gd_lock, token), 0, NULL},
    {"depth", T_PYSSIZET, offsetof(gd_lock, depth), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMemberDef held_members[] = {
    {"_store", T_OBJECT, offsetof(gd_held, store), READONLY, NULL},
    {"_exchange", T_OBJECT, offsetof(gd_held, exchange), 0, NULL},
    {"_timeout", T_OBJECT, offsetof(gd_held, timeout), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef lock_methods[] = {
    {"_take", lock_take, METH_O, "_take(exchange): False where that is not for here."},
    {"_give_back", lock_give_back, METH_O, "_give_back(exchange): as _take."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef held_methods[] = {
    {"__enter__", held_enter, METH_NOARGS, NULL},
    {"__exit__", FAST(held_exit), NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot locks_slots[] = {
    {Py_tp_traverse, locks_traverse},
    {Py_tp_clear, locks_clear},
    {Py_tp_dealloc, locks_dealloc},
    {Py_tp_members, locks_members},
    {0, NULL},
};

static PyType_Slot lock_slots[] = {
    {Py_tp_traverse, lock_traverse}, {Py_tp_clear, lock_clear},     {Py_tp_dealloc, lock_dealloc},
    {Py_tp_members, lock_members},   {Py_tp_methods, lock_methods}, {0, NULL},
};

static PyType_Slot held_slots[] = {
    {Py_tp_traverse, held_traverse}, {Py_tp_clear, held_clear},     {Py_tp_dealloc, held_dealloc},
    {Py_tp_members, held_members},   {Py_tp_methods, held_methods}, {0, NULL},
};

int gd_store_locks_init(PyObject *module) {
    const unsigned long base = Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC;
    gd_known.locks =
        gd_store_type(module, "guado._core.LocksBase", sizeof(gd_locks), locks_slots, base);
    gd_known.lock =
        gd_store_type(module, "guado._core.LockBase", sizeof(gd_lock), lock_slots, base);
    PyTypeObject *held =
        gd_store_type(module, "guado._core.HeldBase", sizeof(gd_held), held_slots, base);
    Py_XDECREF((PyObject *)held);
    return gd_known.locks && gd_known.lock && held ? 0 : -1;
}
