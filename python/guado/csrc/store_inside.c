/* A value at a key of a dict that is part of an item or leaf: `rows[3]["qty"] = 2`. What is
 * recorded is the whole of the item. Twin of Writes._inside, for values without parts.
 */
#include "store.h"

#include <string.h>

/* Where a slot's value is in its list; -1: it hangs nowhere. */
static Py_ssize_t index_in(PyObject *list, PyObject *value) {
    for (Py_ssize_t i = 0; i < PyList_Size(list); i++)
        if (PyList_GetItem(list, i) == value)
            return i;
    return -1;
}

/* The path of what is recorded, and the record up to the value. GD_UNFIT: not for here. */
static int begin(gd_plan *p, gd_out *path, const gd_slot *slot) {
    bool list = PyList_Check(slot->node);
    char op = list ? GD_REPLACE : GD_SET;
    int rc = gd_path_of_node(path, slot->node);
    if (rc == GD_DONE && !list)
        rc = gd_is(slot->key) ? gd_path_key(path, slot->key) : GD_UNFIT;
    if (rc != GD_DONE)
        return rc;
    p->records = 1;
    if (gd_out_add(&p->out, &op, 1) < 0 || gd_out_add(&p->out, path->at, path->len) < 0)
        return GD_FAILED;
    if (list) {
        Py_ssize_t at = index_in(slot->node, slot->value);
        if (at < 0)
            return GD_UNFIT;
        if (gd_out_u32(&p->out, (uint32_t)at) < 0 || gd_out_u32(&p->out, 1) < 0 ||
            gd_out_u32(&p->out, 1) < 0)
            return GD_FAILED;
    }
    return GD_DONE;
}

/* The slot's value with its length, behind what there is. */
static int add_value(gd_out *o, const gd_slot *slot) {
    size_t at = o->len;
    if (gd_out_u32(o, 0) < 0 || gd_encode(o, slot->value, 0) < 0)
        return -1;
    gd_put_u32(o->at + at, (uint32_t)(o->len - at - 4));
    return 0;
}

/* Puts back what was at the key. */
static void put_back(PyObject *dict, PyObject *key, PyObject *before) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    if ((before ? PyDict_SetItem(dict, key, before) : PyDict_DelItem(dict, key)) < 0)
        PyErr_WriteUnraisable(dict);
    PyErr_Restore(type, value, trace);
}

/* The record lock is held: encoding may run code of Python, and nobody else may write what
 * it has not seen the end of. */
static int put_locked(gd_store *s, PyObject *exchange, PyObject *dict, gd_slot *slot, gd_plan *p,
                      PyObject *key, PyObject *value) {
    gd_ledger *l = (gd_ledger *)s->ledger;
    gd_out old;
    if (slot->store != (PyObject *)s || (gd_is(s->gate) && s->gate != exchange) || !slot->value)
        return GD_UNFIT;
    gd_out_init(&old);
    int rc = gd_encode(&old, slot->value, 0);
    long long cost = -(long long)old.len;
    gd_out_free(&old);
    PyObject *before = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    if (rc < 0 || (before && !gd_is_plain(before)) || PyDict_SetItem(dict, key, value) < 0) {
        Py_XDECREF(before);
        return gd_unfit_or_failed();
    }
    size_t from = p->out.len + 4;
    rc = add_value(&p->out, slot) < 0 || p->out.len > UINT32_MAX ||
                 gd_pending_room(s, p->out.len) < 0
             ? gd_unfit_or_failed()
             : GD_DONE;
    cost += (long long)(p->out.len - from);
    if (rc == GD_DONE && cost > 0 && (s->bytes + cost > s->limit || l->bytes + cost > l->limit))
        rc = GD_UNFIT;
    if (rc == GD_DONE && PySet_Add(((gd_exchange *)exchange)->touched, (PyObject *)s) < 0)
        rc = GD_FAILED;
    if (rc == GD_DONE)
        gd_record_change(s, exchange, p, cost);
    else
        put_back(dict, key, before);
    Py_XDECREF(before);
    return rc;
}

int gd_put_inside(gd_store *s, PyObject *dict, PyObject *key, PyObject *value) {
    PyObject *up = gd_tail_of(dict)->up;
    gd_slot *slot = (gd_slot *)up;
    PyObject *lock = ((gd_ledger *)s->ledger)->lock;
    if (!gd_is_plain(value) || Py_TYPE(key) != &PyUnicode_Type || !gd_tracks(slot->node))
        return GD_UNFIT;
    gd_plan plan;
    gd_out path;
    gd_plan_init(&plan);
    gd_out_init(&path);
    Py_INCREF(up);
    PyObject *exchange = gd_enter(s, true);
    int rc = exchange ? GD_UNFIT : GD_FAILED;
    if (exchange && PyObject_TypeCheck(exchange, gd_known.exchange) && !gd_mutex_held(lock)) {
        rc = gd_mutex_lock(lock) < 0 ? GD_FAILED : begin(&plan, &path, slot);
        if (rc == GD_DONE)
            rc = put_locked(s, exchange, dict, slot, &plan, key, value);
        gd_mutex_unlock(lock);
    }
    if (rc == GD_DONE)
        rc = gd_tell(s, exchange, &path, false);
    Py_XDECREF(exchange);
    Py_DECREF(up);
    gd_out_free(&plan.out);
    gd_out_free(&path);
    return rc;
}
