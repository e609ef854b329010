/* The base of Store: who may read and write it, its paths, and the records that wait in it
 * for a commit. Twin of store.py and _writes.py, which do what is rare.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <structmember.h>

#define FAST(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL

/* ---- entering ----------------------------------------------------------------------------- */

PyObject *gd_current(void) {
    return PyObject_CallNoArgs(gd_known.current);
}

PyObject *gd_owner_name(gd_store *s) {
    return PyObject_GetAttr(s->owner, gd_known.name);
}

/* The commit of the exchange is to say of this store that it rests on it. */
static int touch(gd_store *s, gd_exchange *x) {
    gd_ledger *l = (gd_ledger *)s->ledger;
    if (!PyObject_TypeCheck((PyObject *)l, gd_known.ledger) || gd_mutex_held(l->lock))
        return GD_UNFIT;
    PyObject *owner = Py_NewRef(s->owner), *name = gd_owner_name(s);
    PyObject *generation = PyObject_GetAttr(owner, gd_known.generation);
    int rc = GD_FAILED;
    if (name && generation) {
        int known = PyDict_Contains(x->generations, name);
        if (known == 0)
            known = PyDict_SetItem(x->generations, name, generation);
        rc = known < 0 || PySet_Add(x->touched, (PyObject *)s) < 0 ? GD_FAILED : GD_DONE;
    }
    Py_XDECREF(generation);
    Py_XDECREF(name);
    Py_DECREF(owner);
    return rc;
}

PyObject *gd_enter(gd_store *s, bool write) {
    PyObject *x = gd_current();
    if (!x)
        return NULL;
    if (PyObject_TypeCheck(x, gd_known.exchange)) {
        gd_exchange *e = (gd_exchange *)x;
        bool kept_out = gd_is(s->gate) && s->gate != x;
        if (e->touched && !e->over && !kept_out && !(write && e->read_only)) {
            int touched = PySet_Contains(e->touched, (PyObject *)s);
            if (touched == 0)
                touched = touch(s, e);
            if (touched > 0)
                return x;
            if (touched < 0) {
                Py_DECREF(x);
                return NULL;
            }
        }
    }
    Py_DECREF(x);
    return PyObject_CallMethod((PyObject *)s, "_enter", "O", write ? Py_True : Py_False);
}

/* ---- records that wait ---------------------------------------------------------------------- */

static size_t pending_len(const gd_store *s) {
    return s->nsegments ? s->segments[s->nsegments - 1].end : 0;
}

/* Room for one more record and segment, so that adding it cannot fail. */
int gd_pending_room(gd_store *s, size_t more) {
    size_t need = pending_len(s) + more;
    if (need > s->pending_cap) {
        size_t cap = need > 2 * s->pending_cap ? need : 2 * s->pending_cap;
        cap = cap > 256 ? cap : 256;
        char *at = realloc(s->pending, cap);
        if (!at) {
            PyErr_NoMemory();
            return -1;
        }
        s->pending = at;
        s->pending_cap = cap;
    }
    if (s->nsegments == s->segments_cap) {
        uint32_t cap = s->segments_cap ? 2 * s->segments_cap : 1;
        gd_segment *at = realloc(s->segments, cap * sizeof *at);
        if (!at) {
            PyErr_NoMemory();
            return -1;
        }
        s->segments = at;
        s->segments_cap = cap;
    }
    return 0;
}

static void add(gd_store *s, const char *at, size_t n, uint32_t records, PyObject *owner,
                uint64_t token) {
    gd_segment *last = s->nsegments ? &s->segments[s->nsegments - 1] : NULL;
    size_t from = pending_len(s);
    if (!gd_is(owner))
        owner = NULL;
    if (!last || last->owner != owner) {
        last = &s->segments[s->nsegments++];
        *last = (gd_segment){.owner = Py_XNewRef(owner)};
    }
    memcpy(s->pending + from, at, n);
    last->end = from + n;
    last->records += records;
    last->token = token > last->token ? token : last->token;
    s->version++;
}

void gd_pending_add(gd_store *s, const gd_plan *p, PyObject *owner, uint64_t token) {
    add(s, p->out.at, p->out.len, p->records, owner, token);
}

/* How many segments a commit of an exchange takes: up to the first one of another's open
 * transaction. */
static uint32_t reach(const gd_store *s, PyObject *exchange) {
    uint32_t n = 0;
    while (n < s->nsegments && (!s->segments[n].owner || s->segments[n].owner == exchange))
        n++;
    return n;
}

static PyObject *store_append(PyObject *self, PyObject *args) {
    gd_store *s = (gd_store *)self;
    unsigned records;
    const char *at;
    Py_ssize_t n;
    PyObject *owner;
    unsigned long long token;
    if (!PyArg_ParseTuple(args, "Iy#OK:_append_records", &records, &at, &n, &owner, &token) ||
        gd_pending_room(s, (size_t)n) < 0)
        return NULL;
    add(s, at, (size_t)n, records, owner, token);
    Py_RETURN_NONE;
}

bool gd_pending_look(const gd_store *s, PyObject *exchange, gd_waiting *out) {
    uint32_t n = reach(s, exchange);
    *out = (gd_waiting){.at = s->pending, .len = n ? s->segments[n - 1].end : 0};
    for (uint32_t i = 0; i < n; i++) {
        out->records += s->segments[i].records;
        out->token = s->segments[i].token > out->token ? s->segments[i].token : out->token;
    }
    return n > 0;
}

PyObject *gd_pending_take(gd_store *s, PyObject *exchange) {
    gd_waiting w;
    if (!gd_pending_look(s, exchange, &w))
        Py_RETURN_NONE;
    return Py_BuildValue("KIy#", w.token, w.records, w.at, (Py_ssize_t)w.len);
}

static void drop(gd_store *s, uint32_t n) {
    size_t gone = n ? s->segments[n - 1].end : 0, left = pending_len(s) - gone;
    PyObject *first = n ? s->segments[0].owner : NULL;
    for (uint32_t i = 1; i < n; i++)
        Py_XDECREF(s->segments[i].owner);
    if (n == s->nsegments) { /* a store that is not written keeps no memory for it */
        free(s->pending);
        free(s->segments);
        s->pending = NULL;
        s->segments = NULL;
        s->pending_cap = s->nsegments = s->segments_cap = 0;
    } else if (n) {
        memmove(s->pending, s->pending + gone, left);
        memmove(s->segments, s->segments + n, (s->nsegments - n) * sizeof *s->segments);
        s->nsegments -= n;
        for (uint32_t i = 0; i < s->nsegments; i++)
            s->segments[i].end -= gone;
    }
    Py_XDECREF(first);
}

void gd_pending_drop(gd_store *s, PyObject *exchange) {
    drop(s, reach(s, exchange));
}

static PyObject *store_forget(PyObject *self, PyObject *ignored) {
    drop((gd_store *)self, ((gd_store *)self)->nsegments);
    Py_RETURN_NONE;
}

/* ---- paths ------------------------------------------------------------------------------------
 */

/* What is at the keys, borrowed. NULL without an error: nothing, or not for here. */
static PyObject *find(gd_store *s, PyObject *keys, Py_ssize_t n) {
    PyObject *value = s->root;
    for (Py_ssize_t i = 0; value && i < n; i++) {
        if (!PyDict_Check(value))
            return NULL;
        value = PyDict_GetItemWithError(value, PyTuple_GetItem(keys, i));
    }
    return value;
}

/* GD_DONE with what is there, GD_UNFIT where nothing is. */
static int lookup(gd_store *s, PyObject *path, PyObject **found) {
    PyObject *entry = gd_path_parse(path);
    *found = NULL;
    if (!entry && PyErr_Occurred())
        return GD_FAILED;
    if (!entry) {
        *found = PyObject_CallMethod((PyObject *)s, "_find", "(O)", path);
        if (*found || !PyErr_ExceptionMatches(PyExc_KeyError))
            return *found ? GD_DONE : GD_FAILED;
        PyErr_Clear();
        return GD_UNFIT;
    }
    PyObject *keys = PyTuple_GetItem(entry, 0), *exchange = gd_enter(s, false);
    if (exchange) {
        Py_ssize_t n = PyTuple_Size(keys);
        PyObject *value = find(s, keys, n);
        if (value && (PyObject *)Py_TYPE(value) == gd_known.pickled)
            *found = PyObject_GetItem(find(s, keys, n - 1), PyTuple_GetItem(keys, n - 1));
        else
            *found = Py_XNewRef(value);
        Py_DECREF(exchange);
    }
    Py_DECREF(entry);
    if (!*found && PyErr_Occurred())
        return GD_FAILED;
    return *found ? GD_DONE : GD_UNFIT;
}

static PyObject *store_get_item(PyObject *self, PyObject *path) {
    PyObject *found;
    if (lookup((gd_store *)self, path, &found) == GD_UNFIT) {
        PyObject *error = PyObject_CallFunctionObjArgs(PyExc_KeyError, path, NULL);
        if (error)
            PyErr_SetObject(PyExc_KeyError, error);
        Py_XDECREF(error);
    }
    return found;
}

static PyObject *store_get(PyObject *self, PyObject *args, PyObject *named) {
    static char *names[] = {"path", "default", NULL};
    PyObject *path, *found, *otherwise = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, named, "O|O:get", names, &path, &otherwise))
        return NULL;
    return lookup((gd_store *)self, path, &found) == GD_UNFIT ? Py_NewRef(otherwise) : found;
}

static int store_has(PyObject *self, PyObject *path) {
    PyObject *found;
    int rc = lookup((gd_store *)self, path, &found);
    Py_XDECREF(found);
    return rc < 0 ? -1 : rc == GD_DONE;
}

/* Sets, or removes where there is no value; *old is what was there then. */
static int put_at(gd_store *s, PyObject *entry, PyObject *value, PyObject **old) {
    PyObject *keys = PyTuple_GetItem(entry, 0), *wire = PyTuple_GetItem(entry, 1);
    Py_ssize_t n = PyTuple_Size(keys), size;
    char *at;
    if (wire == Py_None)
        return GD_UNFIT;
    PyObject *exchange = gd_enter(s, true);
    if (!exchange)
        return GD_FAILED;
    PyObject *node = find(s, keys, n - 1);
    int rc = !node && PyErr_Occurred() ? GD_FAILED : GD_UNFIT;
    if (node && gd_is_node(node) && PyDict_Check(node)) {
        gd_out path;
        gd_out_init(&path);
        PyBytes_AsStringAndSize(wire, &at, &size);
        Py_INCREF(node);
        PyObject *key = PyTuple_GetItem(keys, n - 1);
        if (gd_out_add(&path, at, (size_t)size) < 0)
            rc = GD_FAILED;
        else
            rc = value ? gd_put(s, exchange, node, &path, key, value)
                       : gd_remove(s, exchange, node, &path, key, old);
        Py_DECREF(node);
        gd_out_free(&path);
    }
    Py_DECREF(exchange);
    return rc;
}

static int put_or_remove(PyObject *self, PyObject *path, PyObject *value, PyObject **old) {
    PyObject *entry = gd_path_parse(path);
    if (!entry)
        return PyErr_Occurred() ? GD_FAILED : GD_UNFIT;
    int rc = put_at((gd_store *)self, entry, value, old);
    Py_DECREF(entry);
    return rc;
}

static int store_set_item(PyObject *self, PyObject *path, PyObject *value) {
    PyObject *old = NULL;
    int rc = put_or_remove(self, path, value, &old);
    Py_XDECREF(old);
    if (rc != GD_UNFIT)
        return rc < 0 ? -1 : 0;
    PyObject *done = value ? PyObject_CallMethod(self, "_set", "(OO)", path, value)
                           : PyObject_CallMethod(self, "_del", "(O)", path);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *store_pop(PyObject *self, PyObject *args) {
    PyObject *path, *otherwise, *old = NULL;
    if (!PyArg_ParseTuple(args, "O|O:pop", &path, &otherwise))
        return NULL;
    int rc = put_or_remove(self, path, NULL, &old);
    if (rc != GD_UNFIT)
        return old;
    PyObject *pop = PyObject_GetAttrString(self, "_pop");
    PyObject *popped = pop ? PyObject_Call(pop, args, NULL) : NULL;
    Py_XDECREF(pop);
    return popped;
}

/* ---- the type -----------------------------------------------------------------------------------
 */

#define FIELDS(DO)                                                                                 \
    DO(ledger)                                                                                     \
    DO(lock)                                                                                       \
    DO(gate) DO(listeners) DO(root) DO(owner) DO(name) DO(id) DO(changes) DO(patience) DO(extra)

static int store_traverse(PyObject *self, visitproc visit, void *arg) {
    gd_store *s = (gd_store *)self;
    Py_VISIT(Py_TYPE(self));
#define VISIT(field) Py_VISIT(s->field);
    FIELDS(VISIT)
    for (uint32_t i = 0; i < s->nsegments; i++)
        Py_VISIT(s->segments[i].owner);
    return 0;
}

static int store_clear(PyObject *self) {
    gd_store *s = (gd_store *)self;
#define CLEAR(field) Py_CLEAR(s->field);
    FIELDS(CLEAR)
    drop(s, s->nsegments);
    return 0;
}

static void store_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    store_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

#define OBJECT(name, field) {name, T_OBJECT, offsetof(gd_store, field), 0, NULL}

static PyMemberDef members[] = {
    OBJECT("_ledger", ledger),
    OBJECT("_lock", lock),
    OBJECT("_gate", gate),
    OBJECT("_listeners", listeners),
    OBJECT("_root", root),
    OBJECT("owner", owner),
    OBJECT("name", name),
    OBJECT("id", id),
    OBJECT("changes", changes),
    OBJECT("patience", patience),
    OBJECT("extra", extra),
    {"limit", T_LONGLONG, offsetof(gd_store, limit), 0, NULL},
    {"bytes", T_LONGLONG, offsetof(gd_store, bytes), 0, "In the account."},
    {"kind", T_BYTE, offsetof(gd_store, kind), 0, "1 page, 2 connection, 3 user."},
    {"pickles", T_BOOL, offsetof(gd_store, pickles), 0, NULL},
    {"version", T_ULONGLONG, offsetof(gd_store, version), READONLY, "Grows with each record."},
    {NULL, 0, 0, 0, NULL},
};

PyObject *gd_store_lock(PyObject *self, PyObject *args, PyObject *named);

static PyMethodDef methods[] = {
    {"get", (PyCFunction)(void (*)(void))store_get, METH_VARARGS | METH_KEYWORDS,
     "get(path, default=None)"},
    {"lock", (PyCFunction)(void (*)(void))gd_store_lock, METH_VARARGS | METH_KEYWORDS,
     "lock(timeout=30): `with` or `async with`: no other exchange has the lock. It keeps nobody\n"
     "from reading and writing who does not ask for it."},
    {"pop", store_pop, METH_VARARGS, "pop(path[, default])"},
    {"_append_records", store_append, METH_VARARGS, "_append_records(n, bytes, owner, token)"},
    {"_forget_records", store_forget, METH_NOARGS, "They go with no commit."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_mp_subscript, store_get_item},
    {Py_mp_ass_subscript, store_set_item},
    {Py_sq_contains, store_has},
    {Py_tp_traverse, store_traverse},
    {Py_tp_clear, store_clear},
    {Py_tp_dealloc, store_dealloc},
    {Py_tp_members, members},
    {Py_tp_methods, methods},
    {0, NULL},
};

int gd_store_store_init(PyObject *module) {
    gd_known.store = gd_store_type(module, "guado._core.StoreBase", sizeof(gd_store), slots,
                                   Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC);
    return gd_known.store ? 0 : -1;
}
