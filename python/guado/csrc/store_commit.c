/* The state of a commit: what it takes of stores, and its bytes (section 6 of
 * protocol/store.md). Twin of Ledger.take and Taken.encode.
 */
#include "store.h"

#include <string.h>

/* ---- taking ----------------------------------------------------------------------------- */

PyObject *gd_named(PyObject *type, PyObject *fields) {
    static newfunc make;
    PyObject *made = NULL, *args = fields ? PyTuple_Pack(1, fields) : NULL;
    if (!make)
        make = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    if (args)
        made = make((PyTypeObject *)type, args, NULL);
    Py_XDECREF(args);
    Py_XDECREF(fields);
    return made;
}

static PyObject *batch_of(gd_store *s, PyObject *exchange) {
    PyObject *taken = gd_pending_take(s, exchange);
    if (!gd_is(taken))
        return taken;
    PyObject *fields = PyTuple_Pack(4, (PyObject *)s, PyTuple_GetItem(taken, 0),
                                    PyTuple_GetItem(taken, 1), PyTuple_GetItem(taken, 2));
    Py_DECREF(taken);
    return gd_named(gd_known.batch, fields);
}

/* The users of the stores, with the generations that the exchange has them under. A store that
 * has become somebody else's since it was touched: that user's current one. */
static int add_generation(PyObject *to, PyObject *from, gd_store *s) {
    PyObject *name = gd_owner_name(s);
    PyObject *generation = name ? Py_XNewRef(PyDict_GetItemWithError(from, name)) : NULL;
    if (name && !generation && !PyErr_Occurred())
        generation = PyObject_GetAttr(s->owner, gd_known.generation);
    int rc = generation ? PyDict_SetItem(to, name, generation) : -1;
    Py_XDECREF(generation);
    Py_XDECREF(name);
    return rc;
}

static PyObject *taken_of(gd_ledger *l, gd_exchange *x, PyObject *stores) {
    PyObject *batches = PyList_New(0), *generations = PyDict_New(), *taken = NULL;
    bool ok = batches && generations;
    for (Py_ssize_t i = 0; ok && i < PyList_Size(stores); i++) {
        PyObject *s = PyList_GetItem(stores, i);
        if (!PyObject_TypeCheck(s, gd_known.store)) {
            PyErr_SetString(PyExc_TypeError, "what was touched is no store");
            ok = false;
            break;
        }
        PyObject *batch = batch_of((gd_store *)s, (PyObject *)x);
        ok = batch && add_generation(generations, x->generations, (gd_store *)s) == 0 &&
             (batch == Py_None || PyList_Append(batches, batch) == 0);
        Py_XDECREF(batch);
    }
    if (ok)
        taken =
            gd_named(gd_known.taken, Py_BuildValue("(KOO)", l->sequence + 1, generations, batches));
    Py_XDECREF(batches);
    Py_XDECREF(generations);
    return taken;
}

/* What was sealed is with the commit. Gives what the exchange had touched. */
static PyObject *let_go(gd_ledger *l, gd_exchange *x, PyObject *stores, PyObject *untouched) {
    PyObject *touched = x->touched;
    for (Py_ssize_t i = 0; i < PyList_Size(stores); i++)
        gd_pending_drop((gd_store *)PyList_GetItem(stores, i), (PyObject *)x);
    x->touched = untouched;
    if ((PyObject *)x == l->outside) /* of its next commit are those of then */
        PyDict_Clear(x->generations);
    return touched;
}

/* Seals, and then lets the records go that have been sealed: an interrupt comes before or
 * behind both, for no code of Python is between. The record lock is held. */
static int seal_all(gd_ledger *l, gd_exchange *x, PyObject *seal) {
    PyObject *stores = PySequence_List(x->touched), *untouched = PySet_New(NULL);
    PyObject *taken = stores && untouched ? taken_of(l, x, stores) : NULL, *done = NULL;
    bool sealed = false;
    if (taken) {
        gd_has_sealed = false;
        l->sequence++;
        done = PyObject_CallFunctionObjArgs(seal, taken, NULL);
        sealed = done || gd_has_sealed;
        if (!sealed)
            l->sequence--;
    }
    if (sealed)
        untouched = let_go(l, x, stores, untouched);
    Py_XDECREF(untouched);
    Py_XDECREF(stores);
    Py_XDECREF(taken);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

PyObject *gd_py_commit(PyObject *self, PyObject *args) {
    gd_ledger *l = (gd_ledger *)self;
    PyObject *exchange, *seal;
    int even = 0;
    if (!PyArg_ParseTuple(args, "O!O|p:_commit", gd_known.exchange, &exchange, &seal, &even) ||
        gd_mutex_lock(l->lock) < 0)
        return NULL;
    gd_exchange *x = (gd_exchange *)exchange;
    bool any = x->touched && (even || PySet_Size(x->touched) > 0);
    int rc = any ? seal_all(l, x, seal) : 0;
    gd_mutex_unlock(l->lock);
    return rc < 0 ? NULL : PyBool_FromLong(any);
}

/* ---- as bytes ----------------------------------------------------------------------------- */

static int add_u(gd_out *o, unsigned long long n, int bytes) {
    char at[8];
    for (int i = 0; i < bytes; i++)
        at[i] = (char)(n >> 8 * i);
    return gd_out_add(o, at, (size_t)bytes);
}

static int add_name(gd_out *o, PyObject *text) {
    char *at;
    Py_ssize_t n;
    PyObject *data = PyUnicode_AsUTF8String(text);
    if (!data)
        return -1;
    PyBytes_AsStringAndSize(data, &at, &n);
    int rc = -1;
    if (n > 0xffff)
        PyErr_SetString(PyExc_ValueError, "a name of more than 65535 bytes");
    else
        rc = add_u(o, (unsigned long long)n, 2) < 0 ? -1 : gd_out_add(o, at, (size_t)n);
    Py_DECREF(data);
    return rc;
}

/* The place of a user among those of the commit. */
static int index_of(PyObject *generations, PyObject *name) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    for (int i = 0; PyDict_Next(generations, &at, &key, &value); i++)
        if (PyUnicode_Compare(key, name) == 0 && !PyErr_Occurred())
            return i;
    if (!PyErr_Occurred())
        PyErr_SetObject(PyExc_KeyError, name);
    return -1;
}

static int add_records(gd_out *o, gd_store *s, const gd_waiting *w, PyObject *generations) {
    PyObject *name = gd_owner_name(s);
    int user = name ? index_of(generations, name) : -1;
    Py_XDECREF(name);
    if (user < 0 || add_u(o, (unsigned)user, 2) < 0 || add_u(o, (unsigned char)s->kind, 1) < 0 ||
        add_name(o, s->id) < 0 || add_u(o, w->token, 8) < 0 || add_u(o, w->records, 4) < 0)
        return -1;
    return add_u(o, w->len, 4) < 0 ? -1 : gd_out_add(o, w->at, w->len);
}

static int add_batch(gd_out *o, PyObject *batch, PyObject *generations) {
    PyObject *store;
    gd_waiting w;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(batch, "O!KIy#", gd_known.store, &store, &w.token, &w.records, &w.at, &n))
        return -1;
    w.len = (size_t)n;
    return add_records(o, (gd_store *)store, &w, generations);
}

static int add_users(gd_out *o, unsigned long long sequence, PyObject *generations) {
    static const char version[8] = {1};
    PyObject *name, *generation;
    Py_ssize_t at = 0;
    if (gd_out_add(o, version, sizeof version) < 0 || add_u(o, sequence, 8) < 0 ||
        add_u(o, (unsigned long long)PyDict_Size(generations), 2) < 0)
        return -1;
    while (PyDict_Next(generations, &at, &name, &generation)) {
        unsigned long long n = PyLong_AsUnsignedLongLong(generation);
        if (PyErr_Occurred() || add_name(o, name) < 0 || add_u(o, n, 8) < 0)
            return -1;
    }
    return 0;
}

static int add_state(gd_out *o, unsigned long long sequence, PyObject *generations,
                     PyObject *batches) {
    if (add_users(o, sequence, generations) < 0 ||
        add_u(o, (unsigned long long)PyList_Size(batches), 4) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_Size(batches); i++)
        if (add_batch(o, PyList_GetItem(batches, i), generations) < 0)
            return -1;
    return 0;
}

PyObject *gd_py_encode_state(PyObject *module, PyObject *args) {
    unsigned long long sequence;
    PyObject *generations, *batches, *data = NULL;
    gd_out o;
    if (!PyArg_ParseTuple(args, "KO!O!:store_encode_state", &sequence, &PyDict_Type, &generations,
                          &PyList_Type, &batches))
        return NULL;
    gd_out_init(&o);
    if (add_state(&o, sequence, generations, batches) == 0)
        data = PyBytes_FromStringAndSize(o.at, (Py_ssize_t)o.len);
    gd_out_free(&o);
    return data;
}

/* ---- both at once, in a worker ----------------------------------------------------------------
 */

/* As add_state, of what waits. */
static int add_waiting(gd_out *o, gd_ledger *l, gd_exchange *x, PyObject *stores,
                       PyObject *generations) {
    gd_waiting w;
    unsigned batches = 0;
    for (Py_ssize_t i = 0; i < PyList_Size(stores); i++) {
        PyObject *s = PyList_GetItem(stores, i);
        if (!PyObject_TypeCheck(s, gd_known.store)) {
            PyErr_SetString(PyExc_TypeError, "what was touched is no store");
            return -1;
        }
        if (add_generation(generations, x->generations, (gd_store *)s) < 0)
            return -1;
        batches += gd_pending_look((gd_store *)s, (PyObject *)x, &w);
    }
    if (add_users(o, l->sequence + 1, generations) < 0 || add_u(o, batches, 4) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_Size(stores); i++) {
        gd_store *s = (gd_store *)PyList_GetItem(stores, i);
        if (gd_pending_look(s, (PyObject *)x, &w) && add_records(o, s, &w, generations) < 0)
            return -1;
    }
    return 0;
}

/* With the head that the request of `handle` (or None) is about to send, or alone. */
static int seal_out(PyObject *handle, bool head, gd_link *link, const gd_out *o) {
    int rc = head ? gd_hook_seal(handle, o->at, o->len) : 0;
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    rc = gd_seal_alone(link, handle != Py_None ? gd_hook_number(handle) : 0, o->at, o->len);
    if (rc < 0)
        gd_raise(rc);
    return rc < 0 ? -1 : 0;
}

int gd_commit_now(gd_ledger *l, gd_exchange *x, PyObject *handle, bool head, PyObject *link,
                  const char *more, size_t n, bool even) {
    gd_link *to = gd_link_of(link);
    if (!to || gd_mutex_lock(l->lock) < 0)
        return -1;
    if (!x->touched || (!even && PySet_Size(x->touched) <= 0)) {
        gd_mutex_unlock(l->lock);
        return 0;
    }
    PyObject *stores = PySequence_List(x->touched), *untouched = PySet_New(NULL);
    PyObject *generations = PyDict_New();
    gd_out o;
    gd_out_init(&o);
    int rc = stores && untouched && generations ? add_waiting(&o, l, x, stores, generations) : -1;
    if (rc == 0 && (rc = gd_out_add(&o, more, n)) == 0 &&
        (rc = seal_out(handle, head, to, &o)) == 0) {
        l->sequence++;
        untouched = let_go(l, x, stores, untouched);
    }
    gd_mutex_unlock(l->lock);
    gd_out_free(&o);
    Py_XDECREF(generations);
    Py_XDECREF(untouched);
    Py_XDECREF(stores);
    return rc < 0 ? -1 : 1;
}

PyObject *gd_py_commit_now(PyObject *module, PyObject *args) {
    PyObject *ledger, *exchange, *handle, *link;
    const char *more;
    Py_ssize_t n;
    int head, even;
    if (!PyArg_ParseTuple(args, "O!O!OpOy#p:commit", gd_known.ledger, &ledger, gd_known.exchange,
                          &exchange, &handle, &head, &link, &more, &n, &even))
        return NULL;
    int rc = gd_commit_now((gd_ledger *)ledger, (gd_exchange *)exchange, handle, head, link, more,
                           (size_t)n, even);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}
