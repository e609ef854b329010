/* What becomes of a value that is put into a store: tracked copies of its containers, its
 * records, its cost. Twin of Writes._build and of _tracked's adopt, leave and weigh.
 */
#include "store.h"

#include <string.h>

void gd_plan_init(gd_plan *p) {
    gd_out_init(&p->out);
    p->records = 0;
    p->cost = 0;
}

static PyObject *new_object(PyObject *type) {
    newfunc make = (newfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_new);
    PyObject *none = PyTuple_New(0);
    PyObject *made = none ? make((PyTypeObject *)type, none, NULL) : NULL;
    Py_XDECREF(none);
    return made;
}

static PyObject *new_node(PyObject *type, PyObject *store, PyObject *up, PyObject *key) {
    PyObject *node = new_object(type);
    if (node) {
        gd_tail *tail = gd_tail_of(node);
        tail->store = Py_XNewRef(store);
        tail->up = Py_XNewRef(up);
        tail->key = Py_XNewRef(key);
    }
    return node;
}

static PyObject *new_slot(PyObject *store, PyObject *node, PyObject *key) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(gd_known.slot, Py_tp_alloc);
    gd_slot *slot = (gd_slot *)alloc(gd_known.slot, 0);
    if (slot) {
        slot->store = Py_NewRef(store);
        slot->node = Py_NewRef(node);
        slot->key = Py_XNewRef(key);
    }
    return (PyObject *)slot;
}

/* ---- adopting ----------------------------------------------------------------------- */

static PyObject *adopt_dict(PyObject *dict, PyObject *slot, int depth) {
    PyObject *key, *part, *made = new_node(gd_known.dict, NULL, slot, NULL);
    Py_ssize_t at = 0;
    while (made && PyDict_Next(dict, &at, &key, &part)) {
        Py_INCREF(key);
        Py_INCREF(part);
        PyObject *copy = gd_adopt(part, slot, depth + 1);
        if (!copy || PyDict_SetItem(made, key, copy) < 0)
            Py_CLEAR(made);
        Py_XDECREF(copy);
        Py_DECREF(part);
        Py_DECREF(key);
    }
    return made;
}

static PyObject *adopt_list(PyObject *list, PyObject *slot, int depth) {
    PyObject *made = new_node(gd_known.list, NULL, slot, NULL);
    for (Py_ssize_t i = 0; made && i < PyList_Size(list); i++) {
        PyObject *part = Py_NewRef(PyList_GetItem(list, i));
        PyObject *copy = gd_adopt(part, slot, depth + 1);
        if (!copy || PyList_Append(made, copy) < 0)
            Py_CLEAR(made);
        Py_XDECREF(copy);
        Py_DECREF(part);
    }
    return made;
}

/* The tuple itself, where nothing in it can change. */
static PyObject *adopt_tuple(PyObject *tuple, PyObject *slot, int depth) {
    Py_ssize_t n = PyTuple_Size(tuple);
    PyObject *made = PyTuple_New(n);
    bool same = true;
    for (Py_ssize_t i = 0; made && i < n; i++) {
        PyObject *copy = gd_adopt(PyTuple_GetItem(tuple, i), slot, depth + 1);
        same = same && copy == PyTuple_GetItem(tuple, i);
        if (!copy || PyTuple_SetItem(made, i, copy) < 0)
            Py_CLEAR(made);
    }
    if (made && same) {
        Py_DECREF(made);
        return Py_NewRef(tuple);
    }
    return made;
}

PyObject *gd_adopt(PyObject *value, PyObject *slot, int depth) {
    PyTypeObject *type = Py_TYPE(value);
    if (gd_tracks(value) && gd_tail_of(value)->up == slot)
        return Py_NewRef(value);
    if (depth <= GD_MOST_DEPTH) {
        if (type == &PyDict_Type || (PyObject *)type == gd_known.dict)
            return adopt_dict(value, slot, depth);
        if (type == &PyList_Type || (PyObject *)type == gd_known.list)
            return adopt_list(value, slot, depth);
        if (type == &PyTuple_Type)
            return adopt_tuple(value, slot, depth);
        if (type != &PySet_Type && (PyObject *)type != gd_known.set)
            return Py_NewRef(value);
    }
    return PyObject_CallFunction(gd_known.adopt, "OOi", value, slot, depth);
}

/* ---- building ----------------------------------------------------------------------- */

static int add_data(gd_out *o, PyObject *value) {
    size_t at = o->len;
    if (gd_out_u32(o, 0) < 0 || gd_encode(o, value, 0) < 0)
        return -1;
    gd_put_u32(o->at + at, (uint32_t)(o->len - at - 4));
    return 0;
}

PyObject *gd_item(PyObject *store, PyObject *node, PyObject *value, gd_out *o) {
    if (gd_is_plain(value))
        return add_data(o, value) < 0 ? NULL : Py_NewRef(value);
    PyObject *slot = new_slot(store, node, NULL);
    PyObject *item = slot ? gd_adopt(value, slot, 0) : NULL;
    if (item)
        ((gd_slot *)slot)->value = Py_NewRef(item);
    Py_XDECREF(slot);
    if (item && add_data(o, item) < 0)
        Py_CLEAR(item);
    return item;
}

static int add_record(gd_plan *p, int op, const gd_out *path) {
    char code = (char)op;
    p->records++;
    p->cost += GD_NODE_COST;
    return gd_out_add(&p->out, &code, 1) < 0 ? -1 : gd_out_add(&p->out, path->at, path->len);
}

static PyObject *build_leaf(gd_plan *p, PyObject *store, PyObject *up, const gd_out *path,
                            PyObject *key, PyObject *value) {
    PyObject *slot = NULL, *leaf = NULL;
    if (add_record(p, GD_SET, path) < 0)
        return NULL;
    size_t at = p->out.len;
    if (gd_is_plain(value)) {
        leaf = Py_NewRef(value);
    } else if ((slot = new_slot(store, up, key)) && (leaf = gd_adopt(value, slot, 0))) {
        ((gd_slot *)slot)->value = Py_NewRef(leaf);
    }
    if (leaf && add_data(&p->out, leaf) < 0)
        Py_CLEAR(leaf);
    Py_XDECREF(slot);
    p->cost += (long long)(p->out.len - at - 4);
    return leaf;
}

static PyObject *build_dict(gd_plan *p, PyObject *store, PyObject *up, const gd_out *path,
                            PyObject *key, PyObject *value) {
    PyObject *name, *part, *node = new_node(gd_known.dict, store, up, key);
    Py_ssize_t at = 0;
    gd_out below;
    gd_out_init(&below);
    if (node && add_record(p, GD_CLEAR, path) < 0)
        Py_CLEAR(node);
    while (node && PyDict_Next(value, &at, &name, &part)) {
        PyObject *built = NULL;
        Py_INCREF(name);
        Py_INCREF(part);
        below.len = 0;
        if (gd_out_add(&below, path->at, path->len) == 0 && gd_path_key(&below, name) == GD_DONE)
            built = gd_build(p, store, node, &below, name, part);
        if (!built || PyDict_SetItem(node, name, built) < 0)
            Py_CLEAR(node);
        Py_XDECREF(built);
        Py_DECREF(part);
        Py_DECREF(name);
    }
    gd_out_free(&below);
    return node;
}

static PyObject *build_list(gd_plan *p, PyObject *store, PyObject *up, const gd_out *path,
                            PyObject *key, PyObject *value) {
    PyObject *node = new_node(gd_known.list, store, up, key);
    if (node && add_record(p, GD_LIST, path) < 0)
        Py_CLEAR(node);
    size_t at = p->out.len;
    if (node && gd_out_u32(&p->out, 0) < 0)
        Py_CLEAR(node);
    uint32_t n = 0;
    for (; node && n < PyList_Size(value); n++) {
        PyObject *part = Py_NewRef(PyList_GetItem(value, n));
        PyObject *item = gd_item(store, node, part, &p->out);
        if (!item || PyList_Append(node, item) < 0)
            Py_CLEAR(node);
        Py_XDECREF(item);
        Py_DECREF(part);
    }
    if (node) {
        gd_put_u32(p->out.at + at, n);
        p->cost += (long long)(p->out.len - at - 4) + (long long)n * (GD_ITEM_COST - 4);
    }
    return node;
}

PyObject *gd_build(gd_plan *p, PyObject *store, PyObject *up, const gd_out *path, PyObject *key,
                   PyObject *value) {
    PyTypeObject *type = Py_TYPE(value);
    Py_ssize_t n;
    if (!PyUnicode_AsUTF8AndSize(key, &n))
        return NULL;
    p->cost += n;
    if (type == &PyDict_Type || (PyObject *)type == gd_known.dict)
        return build_dict(p, store, up, path, key, value);
    if (type == &PyList_Type || (PyObject *)type == gd_known.list)
        return build_list(p, store, up, path, key, value);
    if (gd_is_plain(value) || type == &PyTuple_Type || type == &PySet_Type ||
        type == &PyFrozenSet_Type || (PyObject *)type == gd_known.set)
        return build_leaf(p, store, up, path, key, value);
    return NULL; /* of another type: Python says why not, or pickles it */
}

/* ---- what is there already ------------------------------------------------------------ */

static int leave_list(PyObject *list) {
    int rc = 0;
    for (Py_ssize_t i = 0; i < PyList_Size(list) && rc == 0; i++)
        rc = gd_leave(PyList_GetItem(list, i));
    return rc;
}

int gd_leave(PyObject *value) {
    PyObject *key, *part;
    Py_ssize_t at = 0;
    int rc = 0;
    if (gd_tracks(value)) {
        gd_tail *tail = gd_tail_of(value);
        PyObject **store = &tail->store;
        bool node = gd_is_node(value);
        if (!node)
            store = &((gd_slot *)tail->up)->store;
        PyObject *before = *store;
        *store = NULL;
        if (node && PyDict_Check(value))
            while (rc == 0 && PyDict_Next(value, &at, &key, &part))
                rc = gd_leave(part);
        else if (node)
            rc = leave_list(value);
        Py_XDECREF(before);
        return rc;
    }
    if ((PyObject *)Py_TYPE(value) == gd_known.set) {
        PyObject *none = PyObject_CallFunctionObjArgs(gd_known.leave, value, NULL);
        Py_XDECREF(none);
        return none ? 0 : -1;
    }
    for (Py_ssize_t i = 0; Py_TYPE(value) == &PyTuple_Type && i < PyTuple_Size(value); i++)
        if (gd_leave(PyTuple_GetItem(value, i)) < 0)
            return -1;
    return 0;
}

static int weigh_list(PyObject *list, long long *cost) {
    gd_out o;
    int rc = 0;
    gd_out_init(&o);
    for (Py_ssize_t i = 0; i < PyList_Size(list) && rc == 0; i++) {
        PyObject *item = Py_NewRef(PyList_GetItem(list, i));
        o.len = 0;
        rc = gd_encode(&o, item, 0);
        *cost += GD_ITEM_COST + (long long)o.len;
        Py_DECREF(item);
    }
    gd_out_free(&o);
    return rc;
}

int gd_weigh(PyObject *key, PyObject *value, long long *cost) {
    PyObject *name, *part;
    Py_ssize_t at = 0, n;
    int rc = 0;
    if (!PyUnicode_AsUTF8AndSize(key, &n))
        return -1;
    *cost += GD_NODE_COST + n;
    if (!gd_is_node(value)) {
        gd_out o;
        gd_out_init(&o);
        rc = gd_encode(&o, value, 0);
        *cost += (long long)o.len;
        gd_out_free(&o);
        return rc;
    }
    if (PyList_Check(value))
        return weigh_list(value, cost);
    while (rc == 0 && PyDict_Next(value, &at, &name, &part)) {
        Py_INCREF(part);
        rc = gd_weigh(name, part, cost);
        Py_DECREF(part);
    }
    return rc;
}
