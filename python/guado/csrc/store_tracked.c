/* The bases of TrackedDict and TrackedList: how they are read, and their most frequent
 * writes. What is rare is in _tracked.py. A Slot, where containers inside of leaves hang.
 *
 * The limited API does not say how large a dict or list is; __basicsize__ does. What is
 * ours (gd_tail) lies behind it.
 */
#include "store.h"

#include <string.h>
#include <structmember.h>

#define FAST(f) (PyCFunction)(void (*)(void))(f), METH_FASTCALL
#define BASE(type, slot, kind) ((kind)PyType_GetSlot(&(type), (slot)))

static destructor dict_dealloc, list_dealloc;
static traverseproc dict_traverse, list_traverse;
static inquiry dict_clear, list_clear;
static getiterfunc dict_iterate, list_iterate;
static richcmpfunc dict_compare, list_compare;
static binaryfunc list_subscript;
static objobjproc list_contains;
static PyObject *dict_views[3]; /* keys, items, values of dict */

/* ---- reading -------------------------------------------------------------------------- */

/* The store that a container is in, borrowed; NULL: none. */
static PyObject *where(PyObject *self) {
    gd_tail *tail = gd_tail_of(self);
    PyObject *up = tail->up;
    PyObject *store = up && Py_TYPE(up) == gd_known.slot ? ((gd_slot *)up)->store : tail->store;
    return store && PyObject_TypeCheck(store, gd_known.store) ? store : NULL;
}

/* Before each read: who does it, once no transaction keeps it out. */
static int enter(PyObject *self) {
    PyObject *store = where(self);
    if (!store)
        return 0;
    Py_INCREF(store);
    PyObject *exchange = gd_enter((gd_store *)store, false);
    Py_DECREF(store);
    Py_XDECREF(exchange);
    return exchange ? 0 : -1;
}

static PyObject *py_where(PyObject *self, PyObject *ignored) {
    PyObject *store = where(self);
    return Py_NewRef(store ? store : Py_None);
}

static PyObject *py_read(PyObject *self, PyObject *ignored) {
    return enter(self) < 0 ? NULL : Py_NewRef(Py_None);
}

/* ---- dicts ------------------------------------------------------------------------------ */

static PyObject *opened(PyObject *self, PyObject *key, PyObject *value) {
    if ((PyObject *)Py_TYPE(value) != gd_known.pickled)
        return Py_NewRef(value);
    return PyObject_CallMethod(self, "_opened", "OO", key, value);
}

static PyObject *dict_get_item(PyObject *self, PyObject *key) {
    if (enter(self) < 0)
        return NULL;
    PyObject *value = PyDict_GetItemWithError(self, key);
    if (value)
        return opened(self, key, value);
    if (!PyErr_Occurred()) {
        PyObject *error = PyObject_CallFunctionObjArgs(PyExc_KeyError, key, NULL);
        if (error)
            PyErr_SetObject(PyExc_KeyError, error);
        Py_XDECREF(error);
    }
    return NULL;
}

static PyObject *dict_get(PyObject *self, PyObject *const *args, Py_ssize_t n) {
    if (n < 1 || n > 2) {
        PyErr_SetString(PyExc_TypeError, "get takes a key and a default");
        return NULL;
    }
    if (enter(self) < 0)
        return NULL;
    PyObject *value = PyDict_GetItemWithError(self, args[0]);
    if (value)
        return opened(self, args[0], value);
    if (PyErr_Occurred())
        return NULL;
    return Py_NewRef(n > 1 ? args[1] : Py_None);
}

/* Sets, or removes where there is no value; *old is what was there then. */
static int dict_put(PyObject *self, PyObject *key, PyObject *value, PyObject **old) {
    PyObject *in = where(self);
    int rc = GD_UNFIT;
    if (in && !gd_is_node(self)) {
        Py_INCREF(in);
        rc = value ? gd_put_inside((gd_store *)in, self, key, value) : GD_UNFIT;
        Py_DECREF(in);
    } else if (in && Py_TYPE(key) == &PyUnicode_Type) {
        gd_store *store = (gd_store *)Py_NewRef(in);
        PyObject *exchange = gd_enter(store, true);
        gd_out path;
        gd_out_init(&path);
        rc = exchange ? gd_path_of_node(&path, self) : GD_FAILED;
        if (rc == GD_DONE && (rc = gd_path_key(&path, key)) == GD_DONE)
            rc = value ? gd_put(store, exchange, self, &path, key, value)
                       : gd_remove(store, exchange, self, &path, key, old);
        gd_out_free(&path);
        Py_XDECREF(exchange);
        Py_DECREF(store);
    }
    return rc;
}

static int dict_set_item(PyObject *self, PyObject *key, PyObject *value) {
    PyObject *old = NULL;
    int rc = dict_put(self, key, value, &old);
    Py_XDECREF(old);
    if (rc != GD_UNFIT)
        return rc < 0 ? -1 : 0;
    PyObject *done = value ? PyObject_CallMethod(self, "_set", "(OO)", key, value)
                           : PyObject_CallMethod(self, "_del", "(O)", key);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *dict_pop(PyObject *self, PyObject *args) {
    PyObject *key, *otherwise, *old = NULL;
    if (!PyArg_ParseTuple(args, "O|O:pop", &key, &otherwise))
        return NULL;
    int rc = dict_put(self, key, NULL, &old);
    if (rc != GD_UNFIT)
        return old;
    PyObject *pop = PyObject_GetAttrString(self, "_pop");
    PyObject *popped = pop ? PyObject_Call(pop, args, NULL) : NULL;
    Py_XDECREF(pop);
    return popped;
}

static int dict_has(PyObject *self, PyObject *key) {
    return enter(self) < 0 ? -1 : PyDict_Contains(self, key);
}

static Py_ssize_t dict_length(PyObject *self) {
    return enter(self) < 0 ? -1 : PyDict_Size(self);
}

static PyObject *dict_iter(PyObject *self) {
    return enter(self) < 0 ? NULL : dict_iterate(self);
}

static PyObject *dict_richcompare(PyObject *self, PyObject *other, int op) {
    return enter(self) < 0 ? NULL : dict_compare(self, other, op);
}

static PyObject *view(PyObject *self, int which, const char *method) {
    PyObject *store = where(self);
    if (which > 0 && store && ((gd_store *)store)->pickles)
        return PyObject_CallMethod(self, method, NULL);
    return enter(self) < 0 ? NULL : PyObject_CallFunctionObjArgs(dict_views[which], self, NULL);
}

static PyObject *dict_keys(PyObject *self, PyObject *ignored) {
    return view(self, 0, NULL);
}

static PyObject *dict_items(PyObject *self, PyObject *ignored) {
    return view(self, 1, "_items");
}

static PyObject *dict_values(PyObject *self, PyObject *ignored) {
    return view(self, 2, "_values");
}

static int visit_tail(PyObject *self, visitproc visit, void *arg) {
    gd_tail *tail = gd_tail_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(tail->store);
    Py_VISIT(tail->up);
    Py_VISIT(tail->key);
    return 0;
}

static void clear_tail(PyObject *self) {
    gd_tail *tail = gd_tail_of(self);
    Py_CLEAR(tail->store);
    Py_CLEAR(tail->up);
    Py_CLEAR(tail->key);
}

static int tracked_traverse(PyObject *self, visitproc visit, void *arg) {
    int rc = visit_tail(self, visit, arg);
    return rc ? rc : (PyDict_Check(self) ? dict_traverse : list_traverse)(self, visit, arg);
}

static int tracked_clear(PyObject *self) {
    clear_tail(self);
    return (PyDict_Check(self) ? dict_clear : list_clear)(self);
}

static void tracked_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear_tail(self);
    (PyDict_Check(self) ? dict_dealloc : list_dealloc)(self);
    Py_DECREF(type);
}

static PyMethodDef dict_methods[] = {
    {"_where", py_where, METH_NOARGS, "The store that it is in, or None."},
    {"_read", py_read, METH_NOARGS, "Before each read."},
    {"get", FAST(dict_get), "get(key, default=None)"},
    {"pop", dict_pop, METH_VARARGS, "pop(key[, default])"},
    {"keys", dict_keys, METH_NOARGS, NULL},
    {"items", dict_items, METH_NOARGS, NULL},
    {"values", dict_values, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef dict_members[] = {
    {"_store", T_OBJECT, offsetof(gd_tail, store), 0, NULL},
    {"_up", T_OBJECT, offsetof(gd_tail, up), 0, NULL},
    {"_key", T_OBJECT, offsetof(gd_tail, key), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot dict_slots[] = {
    {Py_mp_subscript, dict_get_item},
    {Py_mp_ass_subscript, dict_set_item},
    {Py_mp_length, dict_length},
    {Py_sq_contains, dict_has},
    {Py_tp_iter, dict_iter},
    {Py_tp_richcompare, dict_richcompare},
    {Py_tp_hash, (void *)PyObject_HashNotImplemented},
    {Py_tp_traverse, tracked_traverse},
    {Py_tp_clear, tracked_clear},
    {Py_tp_dealloc, tracked_dealloc},
    {Py_tp_methods, dict_methods},
    {Py_tp_members, dict_members},
    {0, NULL},
};

/* ---- lists ------------------------------------------------------------------------------ */

static PyObject *list_get_item(PyObject *self, PyObject *at) {
    return enter(self) < 0 ? NULL : list_subscript(self, at);
}

static PyObject *list_get_at(PyObject *self, Py_ssize_t at) {
    if (enter(self) < 0)
        return NULL;
    PyObject *item = PyList_GetItem(self, at);
    return Py_XNewRef(item);
}

static int list_has(PyObject *self, PyObject *value) {
    return enter(self) < 0 ? -1 : list_contains(self, value);
}

static Py_ssize_t list_length(PyObject *self) {
    return enter(self) < 0 ? -1 : PyList_Size(self);
}

static PyObject *list_iter(PyObject *self) {
    return enter(self) < 0 ? NULL : list_iterate(self);
}

static PyObject *list_richcompare(PyObject *self, PyObject *other, int op) {
    return enter(self) < 0 ? NULL : list_compare(self, other, op);
}

static PyObject *list_append(PyObject *self, PyObject *value) {
    PyObject *in = gd_is_node(self) ? where(self) : NULL;
    int rc = GD_UNFIT;
    if (in) {
        gd_store *store = (gd_store *)Py_NewRef(in);
        rc = gd_append(store, self, value);
        Py_DECREF(store);
    }
    if (rc == GD_UNFIT)
        return PyObject_CallMethod(self, "extend", "((O))", value);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* GD_UNFIT: Python does it, and says what is wrong with it. */
static int list_splice(PyObject *self, PyObject *index, bool replace, PyObject *value,
                       PyObject **old) {
    PyObject *in = gd_is_node(self) ? where(self) : NULL;
    if (!in || Py_TYPE(index) != &PyLong_Type)
        return GD_UNFIT;
    Py_ssize_t at = PyLong_AsSsize_t(index);
    if (at == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return GD_UNFIT;
    }
    gd_store *store = (gd_store *)Py_NewRef(in);
    int rc = gd_splice(store, self, at < 0 ? at + PyList_Size(self) : at, replace, value, old);
    Py_DECREF(store);
    return rc;
}

static int list_set_item(PyObject *self, PyObject *index, PyObject *value) {
    PyObject *old = NULL;
    int rc = list_splice(self, index, true, value, &old);
    Py_XDECREF(old);
    if (rc != GD_UNFIT)
        return rc < 0 ? -1 : 0;
    PyObject *done = value ? PyObject_CallMethod(self, "_set", "(OO)", index, value)
                           : PyObject_CallMethod(self, "_del", "(O)", index);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int list_set_at(PyObject *self, Py_ssize_t at, PyObject *value) {
    PyObject *index = PyLong_FromSsize_t(at);
    int rc = index ? list_set_item(self, index, value) : -1;
    Py_XDECREF(index);
    return rc;
}

static PyObject *list_pop(PyObject *self, PyObject *args) {
    PyObject *index = NULL, *old = NULL;
    if (!PyArg_ParseTuple(args, "|O:pop", &index))
        return NULL;
    PyObject *last = PyLong_FromLong(-1);
    int rc = last ? list_splice(self, index ? index : last, true, NULL, &old) : GD_FAILED;
    Py_XDECREF(last);
    if (rc != GD_UNFIT)
        return old;
    PyObject *pop = PyObject_GetAttrString(self, "_pop");
    PyObject *popped = pop ? PyObject_Call(pop, args, NULL) : NULL;
    Py_XDECREF(pop);
    return popped;
}

static PyMethodDef list_methods[] = {
    {"_where", py_where, METH_NOARGS, "The store that it is in, or None."},
    {"_read", py_read, METH_NOARGS, "Before each read."},
    {"append", list_append, METH_O, "append(value)"},
    {"pop", list_pop, METH_VARARGS, "pop(index=-1)"},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef list_members[] = {
    {"_store", T_OBJECT, offsetof(gd_tail, store), 0, NULL},
    {"_up", T_OBJECT, offsetof(gd_tail, up), 0, NULL},
    {"_key", T_OBJECT, offsetof(gd_tail, key), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot list_slots[] = {
    {Py_mp_subscript, list_get_item},
    {Py_mp_ass_subscript, list_set_item},
    {Py_sq_ass_item, list_set_at},
    {Py_sq_item, list_get_at},
    {Py_sq_length, list_length},
    {Py_mp_length, list_length},
    {Py_sq_contains, list_has},
    {Py_tp_iter, list_iter},
    {Py_tp_richcompare, list_richcompare},
    {Py_tp_hash, (void *)PyObject_HashNotImplemented},
    {Py_tp_traverse, tracked_traverse},
    {Py_tp_clear, tracked_clear},
    {Py_tp_dealloc, tracked_dealloc},
    {Py_tp_methods, list_methods},
    {Py_tp_members, list_members},
    {0, NULL},
};

/* ---- slots ------------------------------------------------------------------------------ */

static int slot_init(PyObject *self, PyObject *args, PyObject *named) {
    gd_slot *slot = (gd_slot *)self;
    PyObject *store, *node, *key = NULL;
    if (!PyArg_ParseTuple(args, "OO|O:Slot", &store, &node, &key))
        return -1;
    GD_SETREF(slot->store, Py_NewRef(store));
    GD_SETREF(slot->node, Py_NewRef(node));
    GD_SETREF(slot->key, Py_XNewRef(key));
    return 0;
}

static int slot_traverse(PyObject *self, visitproc visit, void *arg) {
    gd_slot *slot = (gd_slot *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(slot->store);
    Py_VISIT(slot->node);
    Py_VISIT(slot->key);
    Py_VISIT(slot->value);
    return 0;
}

static int slot_clear(PyObject *self) {
    gd_slot *slot = (gd_slot *)self;
    Py_CLEAR(slot->store);
    Py_CLEAR(slot->node);
    Py_CLEAR(slot->key);
    Py_CLEAR(slot->value);
    return 0;
}

static void slot_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    slot_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef slot_members[] = {
    {"store", T_OBJECT, offsetof(gd_slot, store), 0, NULL},
    {"node", T_OBJECT, offsetof(gd_slot, node), 0, NULL},
    {"key", T_OBJECT, offsetof(gd_slot, key), 0, "Of a leaf."},
    {"value", T_OBJECT, offsetof(gd_slot, value), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slot_slots[] = {
    {Py_tp_init, slot_init},       {Py_tp_traverse, slot_traverse}, {Py_tp_clear, slot_clear},
    {Py_tp_dealloc, slot_dealloc}, {Py_tp_members, slot_members},   {0, NULL},
};

static PyType_Spec slot_spec = {
    .name = "guado._core.Slot",
    .basicsize = sizeof(gd_slot),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slot_slots,
};

/* ---- making the types --------------------------------------------------------------------- */

static PyObject *make_base(PyObject *module, const char *name, PyTypeObject *over,
                           PyType_Slot *slots, PyMemberDef *members, Py_ssize_t *tail) {
    PyObject *size = PyObject_GetAttrString((PyObject *)over, "__basicsize__");
    if (!size)
        return NULL;
    *tail = (PyLong_AsSsize_t(size) + 7) / 8 * 8;
    Py_DECREF(size);
    for (PyMemberDef *m = members; m->name; m++)
        m->offset += *tail;
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)(*tail + (Py_ssize_t)sizeof(gd_tail)),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
    };
    PyObject *type = PyType_FromSpecWithBases(&spec, (PyObject *)over);
    if (type && PyModule_AddObjectRef(module, strrchr(name, '.') + 1, type) < 0)
        Py_CLEAR(type);
    return type;
}

int gd_store_tracked_init(PyObject *module) {
    static const char *const views[] = {"keys", "items", "values"};
    dict_dealloc = BASE(PyDict_Type, Py_tp_dealloc, destructor);
    dict_traverse = BASE(PyDict_Type, Py_tp_traverse, traverseproc);
    dict_clear = BASE(PyDict_Type, Py_tp_clear, inquiry);
    dict_iterate = BASE(PyDict_Type, Py_tp_iter, getiterfunc);
    dict_compare = BASE(PyDict_Type, Py_tp_richcompare, richcmpfunc);
    list_dealloc = BASE(PyList_Type, Py_tp_dealloc, destructor);
    list_traverse = BASE(PyList_Type, Py_tp_traverse, traverseproc);
    list_clear = BASE(PyList_Type, Py_tp_clear, inquiry);
    list_iterate = BASE(PyList_Type, Py_tp_iter, getiterfunc);
    list_compare = BASE(PyList_Type, Py_tp_richcompare, richcmpfunc);
    list_subscript = BASE(PyList_Type, Py_mp_subscript, binaryfunc);
    list_contains = BASE(PyList_Type, Py_sq_contains, objobjproc);
    for (int i = 0; i < 3; i++)
        if (!(dict_views[i] = PyObject_GetAttrString((PyObject *)&PyDict_Type, views[i])))
            return -1;
    PyObject *dict = make_base(module, "guado._core.DictBase", &PyDict_Type, dict_slots,
                               dict_members, &gd_known.dict_tail);
    PyObject *list = make_base(module, "guado._core.ListBase", &PyList_Type, list_slots,
                               list_members, &gd_known.list_tail);
    gd_known.slot = (PyTypeObject *)PyType_FromSpec(&slot_spec);
    Py_XDECREF(dict);
    Py_XDECREF(list);
    return dict && list && gd_known.slot &&
                   PyModule_AddObjectRef(module, "Slot", (PyObject *)gd_known.slot) == 0
               ? 0
               : -1;
}
