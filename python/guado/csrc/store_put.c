/* The most frequent writes of stores: a value at a key, an item behind a list. They are
 * checked, counted, recorded and done in one go, or not begun. Twin of Writes._put and
 * _append, which do what is not simple and say what is wrong.
 */
#include "store.h"

#include <string.h>

/* What Python would say better, it is asked to say. */
int gd_unfit_or_failed(void) {
    if (!PyErr_Occurred())
        return GD_UNFIT;
    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError))
        return GD_FAILED;
    PyErr_Clear();
    return GD_UNFIT;
}

/* The last look. Nothing from here to the last step runs code of Python. */
bool gd_may(gd_store *s, PyObject *exchange, PyObject *node, long long cost) {
    gd_ledger *l = (gd_ledger *)s->ledger;
    if (!l || !PyObject_TypeCheck((PyObject *)l, gd_known.ledger) || gd_mutex_held(l->lock))
        return false;
    if ((gd_is(s->gate) && s->gate != exchange) || gd_tail_of(node)->store != (PyObject *)s)
        return false;
    if (cost > 0 && (s->bytes + cost > s->limit || l->bytes + cost > l->limit))
        return false;
    /* a commit may have been since it entered */
    return PyObject_TypeCheck(exchange, gd_known.exchange) &&
           PySet_Add(((gd_exchange *)exchange)->touched, (PyObject *)s) == 0;
}

void gd_record_change(gd_store *s, PyObject *exchange, const gd_plan *p, long long cost) {
    gd_lock *lock = (gd_lock *)s->lock;
    bool locked = PyObject_TypeCheck((PyObject *)lock, gd_known.lock) && lock->owner == exchange;
    gd_pending_add(s, p, s->gate, locked ? lock->token : 0);
    s->bytes += cost;
    ((gd_ledger *)s->ledger)->bytes += cost;
}

static PyObject *keys_of(const gd_out *path) {
    const unsigned char *at = (const unsigned char *)path->at;
    PyObject *keys = PyTuple_New(*at++);
    for (Py_ssize_t i = 0; keys && i < PyTuple_Size(keys); i++) {
        Py_ssize_t n = at[0] | at[1] << 8;
        PyObject *key = PyUnicode_DecodeUTF8((const char *)at + 2, n, NULL);
        if (!key || PyTuple_SetItem(keys, i, key) < 0)
            Py_CLEAR(keys);
        at += 2 + n;
    }
    return keys;
}

/* Who wants to know of it is told. */
int gd_tell(gd_store *s, PyObject *exchange, const gd_out *path, bool deleted) {
    PyObject *done = Py_None;
    if (gd_is(s->listeners) && PyObject_Size(s->listeners) > 0) {
        PyObject *keys = keys_of(path);
        done = keys ? PyObject_CallMethod((PyObject *)s, "_tell", "(OOO)", keys, Py_None,
                                          deleted ? Py_True : Py_False)
                    : NULL;
        Py_XDECREF(keys);
        Py_XDECREF(done);
    }
    if (done && exchange == ((gd_ledger *)s->ledger)->outside) {
        done = PyObject_CallMethod(s->ledger, "loose", NULL);
        Py_XDECREF(done);
    }
    return done ? GD_DONE : GD_FAILED;
}

/* What was built is in no store after all. */
static int give_up(PyObject *built, int rc) {
    if (built && gd_leave(built) < 0)
        return GD_FAILED;
    return rc;
}

int gd_put(gd_store *s, PyObject *exchange, PyObject *node, const gd_out *path, PyObject *key,
           PyObject *value) {
    gd_plan plan;
    long long cost = 0;
    unsigned long long version = s->version;
    int rc = GD_UNFIT;
    gd_plan_init(&plan);
    PyObject *before = NULL;
    PyObject *built = gd_build(&plan, (PyObject *)s, node, path, key, value);
    if (!built)
        rc = gd_unfit_or_failed();
    else if ((before = Py_XNewRef(PyDict_GetItemWithError(node, key))) &&
             gd_weigh(key, before, &cost) < 0)
        rc = gd_unfit_or_failed();
    else if (plan.out.len > UINT32_MAX || gd_pending_room(s, plan.out.len) < 0)
        rc = gd_unfit_or_failed();
    else if (version != s->version || !gd_may(s, exchange, node, plan.cost - cost))
        rc = gd_unfit_or_failed();
    else {
        rc = PyDict_SetItem(node, key, built) < 0 ? GD_FAILED : GD_DONE;
        if (rc == GD_DONE)
            gd_record_change(s, exchange, &plan, plan.cost - cost);
    }
    if (rc != GD_DONE)
        rc = give_up(built, rc);
    else if (before && gd_leave(before) < 0)
        rc = GD_FAILED;
    if (rc == GD_DONE)
        rc = gd_tell(s, exchange, path, false);
    Py_XDECREF(before);
    Py_XDECREF(built);
    gd_out_free(&plan.out);
    return rc;
}

int gd_append(gd_store *s, PyObject *node, PyObject *value) {
    static const char head[] = {GD_APPEND};
    gd_plan plan;
    gd_out path;
    int rc;
    gd_plan_init(&plan);
    gd_out_init(&path);
    PyObject *item = NULL, *exchange = gd_enter(s, true);
    rc = exchange ? gd_path_of_node(&path, node) : GD_FAILED;
    if (rc == GD_DONE) {
        unsigned long long version = s->version;
        plan.records = 1;
        rc = GD_UNFIT;
        if (gd_out_add(&plan.out, head, 1) < 0 || gd_out_add(&plan.out, path.at, path.len) < 0 ||
            gd_out_u32(&plan.out, 1) < 0)
            rc = GD_FAILED;
        size_t from = plan.out.len + 4;
        if (rc == GD_UNFIT && !(item = gd_item((PyObject *)s, node, value, &plan.out)))
            rc = gd_unfit_or_failed();
        long long cost = GD_ITEM_COST + (long long)(plan.out.len - from);
        if (item && (plan.out.len > UINT32_MAX || gd_pending_room(s, plan.out.len) < 0))
            rc = gd_unfit_or_failed();
        else if (item && (version != s->version || !gd_may(s, exchange, node, cost)))
            rc = gd_unfit_or_failed();
        else if (item) {
            rc = PyList_Append(node, item) < 0 ? GD_FAILED : GD_DONE;
            if (rc == GD_DONE)
                gd_record_change(s, exchange, &plan, cost);
        }
    }
    rc = rc == GD_DONE ? gd_tell(s, exchange, &path, false) : give_up(item, rc);
    Py_XDECREF(item);
    Py_XDECREF(exchange);
    gd_out_free(&plan.out);
    gd_out_free(&path);
    return rc;
}
