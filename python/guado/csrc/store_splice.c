/* More writes of stores that are frequent: a key goes, an item of a list gives way, goes or
 * comes between. As in store_put.c, all in one go or not begun. Twin of Writes._remove and
 * _edit.
 */
#include "store.h"

#include <string.h>

static int add_head(gd_plan *p, int op, const gd_out *path) {
    char code = (char)op;
    p->records = 1;
    return gd_out_add(&p->out, &code, 1) < 0 ? -1 : gd_out_add(&p->out, path->at, path->len);
}

int gd_remove(gd_store *s, PyObject *exchange, PyObject *node, const gd_out *path, PyObject *key,
              PyObject **old) {
    gd_plan plan;
    long long cost = 0;
    unsigned long long version = s->version;
    int rc = GD_UNFIT;
    gd_plan_init(&plan);
    PyObject *before = Py_XNewRef(PyDict_GetItemWithError(node, key));
    *old = NULL;
    if (!before || (PyObject *)Py_TYPE(before) == gd_known.pickled ||
        gd_weigh(key, before, &cost) < 0 || add_head(&plan, GD_DELETE, path) < 0 ||
        gd_pending_room(s, plan.out.len) < 0 || version != s->version ||
        !gd_may(s, exchange, node, -cost)) {
        rc = gd_unfit_or_failed();
    } else {
        rc = PyDict_DelItem(node, key) < 0 ? GD_FAILED : GD_DONE;
        if (rc == GD_DONE)
            gd_record_change(s, exchange, &plan, -cost);
    }
    gd_out_free(&plan.out);
    if (rc == GD_DONE && (gd_leave(before) < 0 || gd_tell(s, exchange, path, true) < 0))
        rc = GD_FAILED;
    if (rc == GD_DONE)
        *old = before;
    else
        Py_XDECREF(before);
    return rc;
}

/* ---- lists ------------------------------------------------------------------------------ */

typedef struct {
    Py_ssize_t at;
    PyObject *before; /* the item that is there, or NULL where none is to go */
    PyObject *item;   /* what comes, or NULL */
    gd_plan plan;
    long long cost;
} splice;

/* The record, what it costs, and the item as it will be. GD_UNFIT: not for here. */
static int prepare(splice *p, gd_store *s, PyObject *node, const gd_out *path, PyObject *value) {
    gd_out o;
    int rc = add_head(&p->plan, GD_REPLACE, path);
    if (rc == 0)
        rc = gd_out_u32(&p->plan.out, (uint32_t)p->at) < 0 ||
                     gd_out_u32(&p->plan.out, p->before ? 1 : 0) < 0 ||
                     gd_out_u32(&p->plan.out, value ? 1 : 0) < 0
                 ? -1
                 : 0;
    if (rc == 0 && p->before) {
        gd_out_init(&o);
        rc = gd_encode(&o, p->before, 0);
        p->cost -= GD_ITEM_COST + (long long)o.len;
        gd_out_free(&o);
    }
    size_t from = p->plan.out.len + 4;
    if (rc == 0 && value) {
        p->item = gd_item((PyObject *)s, node, value, &p->plan.out);
        p->cost += GD_ITEM_COST + (long long)(p->plan.out.len - from);
        rc = p->item ? 0 : -1;
    }
    if (rc < 0 || p->plan.out.len > UINT32_MAX || gd_pending_room(s, p->plan.out.len) < 0)
        return gd_unfit_or_failed();
    return GD_DONE;
}

static int do_it(const splice *p, PyObject *node) {
    if (p->before && p->item)
        return PyList_SetItem(node, p->at, Py_NewRef(p->item));
    return p->before ? PyList_SetSlice(node, p->at, p->at + 1, NULL)
                     : PyList_Insert(node, p->at, p->item);
}

/* The item that was there stays what it is: the same one has come. */
static bool is_same(PyObject *node, Py_ssize_t at, bool replace, PyObject *value) {
    return replace && value && PyList_GetItem(node, at) == value;
}

static int splice_in(gd_store *s, PyObject *exchange, PyObject *node, splice *p, const gd_out *path,
                     PyObject *value) {
    unsigned long long version = s->version;
    int rc = prepare(p, s, node, path, value);
    if (rc != GD_DONE)
        return rc;
    if (version != s->version || !gd_may(s, exchange, node, p->cost))
        return gd_unfit_or_failed();
    if (do_it(p, node) < 0)
        return GD_FAILED;
    gd_record_change(s, exchange, &p->plan, p->cost);
    return GD_DONE;
}

int gd_splice(gd_store *s, PyObject *node, Py_ssize_t at, bool replace, PyObject *value,
              PyObject **old) {
    splice p = {.at = at};
    gd_out path;
    gd_out_init(&path);
    gd_plan_init(&p.plan);
    *old = NULL;
    PyObject *exchange = gd_enter(s, true);
    int rc = exchange ? gd_path_of_node(&path, node) : GD_FAILED;
    if (rc == GD_DONE && (at < 0 || at >= PyList_Size(node)))
        rc = GD_UNFIT;
    if (rc == GD_DONE && is_same(node, at, replace, value)) {
        rc = GD_DONE;
    } else if (rc == GD_DONE) {
        if (replace || !value)
            p.before = Py_NewRef(PyList_GetItem(node, at));
        rc = splice_in(s, exchange, node, &p, &path, value);
        if (rc != GD_DONE && p.item && gd_leave(p.item) < 0)
            rc = GD_FAILED;
        if (rc == GD_DONE && p.before && gd_leave(p.before) < 0)
            rc = GD_FAILED;
        if (rc == GD_DONE)
            rc = gd_tell(s, exchange, &path, false);
    }
    if (rc == GD_DONE)
        *old = p.before;
    else
        Py_XDECREF(p.before);
    Py_XDECREF(p.item);
    Py_XDECREF(exchange);
    gd_out_free(&p.plan.out);
    gd_out_free(&path);
    return rc;
}
