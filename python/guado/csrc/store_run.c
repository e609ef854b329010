/* The hook of a request's answer, as a rule: what its exchange has written goes with the head,
 * and nothing else is to be done. Twin of Running in _state.py, which does the rest: calls that
 * wait for a commit, open transactions, locks, turns, pickles. Before: module_state.c calls it.
 * After: store_commit.c.
 */
#include "store.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD PyObject *state, *ledger, *link, *handle, *exchange, *effects, *turns;
    char over, answered, headed, left;
} gd_running;

static PyTypeObject *running_type;

static bool none_in_dict(PyObject *o) {
    return o && PyDict_Check(o) && PyDict_Size(o) == 0;
}

static bool none_in_set(PyObject *o) {
    return o && PyAnySet_Check(o) && PySet_Size(o) == 0;
}

/* Nothing out of the ordinary. */
static bool plain(const gd_running *r, const gd_exchange *x, bool end) {
    return r->effects && PyList_Check(r->effects) && PyList_Size(r->effects) == 0 && r->handle &&
           r->link && none_in_dict(x->pickles) && none_in_set(x->closed) &&
           (!end || (none_in_dict(x->open) && none_in_set(x->held)));
}

static int commit(gd_running *r, gd_exchange *x, bool head) {
    static const char no_effects[4];
    if (!x->touched || PySet_Size(x->touched) == 0)
        return 0;
    if (!head)
        r->left = 0;
    return gd_commit_now((gd_ledger *)r->ledger, x, r->handle, head, r->link, no_effects,
                         sizeof no_effects, false);
}

int gd_running_hook(PyObject *o, int what) {
    gd_running *r = (gd_running *)o;
    gd_exchange *x = (gd_exchange *)r->exchange;
    bool end = what == GD_HOOK_END, head = what == GD_HOOK_HEAD || what == GD_HOOK_ACCEPT;
    bool fit = x && PyObject_TypeCheck(r->exchange, gd_known.exchange) && r->ledger &&
               PyObject_TypeCheck(r->ledger, gd_known.ledger) && plain(r, x, end);
    if (!fit || (end && (!r->left || PySet_Size(x->touched) != 0 || !none_in_dict(r->turns)))) {
        PyObject *done = PyObject_CallMethod(o, "_hook", "i", what);
        Py_XDECREF(done);
        return done ? 0 : -1;
    }
    if (end) {
        r->over = x->over = 1;
        return 0;
    }
    if (commit(r, x, head) < 0)
        return -1;
    if (head) {
        r->answered = 1;
        r->headed = what == GD_HOOK_HEAD;
        x->read_only = r->headed && !(r->turns && PyDict_Size(r->turns) > 0);
    }
    return 0;
}

bool gd_is_running(PyObject *o) {
    return running_type && PyObject_TypeCheck(o, running_type);
}

static PyObject *running_call(PyObject *self, PyObject *args, PyObject *named) {
    int what;
    if (!PyArg_ParseTuple(args, "i:hook", &what) || gd_running_hook(self, what) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int running_init(PyObject *self, PyObject *args, PyObject *named) {
    gd_running *r = (gd_running *)self;
    PyObject *state, *ledger, *link, *handle, *exchange;
    if (!PyArg_ParseTuple(args, "OOOOO:Running", &state, &ledger, &link, &handle, &exchange))
        return -1;
    GD_SETREF(r->state, Py_NewRef(state));
    GD_SETREF(r->ledger, Py_NewRef(ledger));
    GD_SETREF(r->link, Py_NewRef(link));
    GD_SETREF(r->handle, Py_NewRef(handle));
    GD_SETREF(r->exchange, Py_NewRef(exchange));
    GD_SETREF(r->effects, PyList_New(0));
    GD_SETREF(r->turns, PyDict_New());
    r->over = r->answered = r->headed = 0;
    r->left = 1;
    return r->effects && r->turns ? 0 : -1;
}

#define RUNNING_FIELDS(DO)                                                                         \
    DO(state) DO(ledger) DO(link) DO(handle) DO(exchange) DO(effects) DO(turns)

static int running_traverse(PyObject *self, visitproc visit, void *arg) {
    gd_running *r = (gd_running *)self;
    Py_VISIT(Py_TYPE(self));
#define VISIT(field) Py_VISIT(r->field);
    RUNNING_FIELDS(VISIT)
    return 0;
}

static int running_clear(PyObject *self) {
    gd_running *r = (gd_running *)self;
#define CLEAR(field) Py_CLEAR(r->field);
    RUNNING_FIELDS(CLEAR)
    return 0;
}

static void running_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    running_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

#define FIELD(name) {#name, T_OBJECT, offsetof(gd_running, name), 0, NULL},

static PyMemberDef running_members[] = {
    RUNNING_FIELDS(FIELD){"over", T_BOOL, offsetof(gd_running, over), 0, "Its code is gone."},
    {"answered", T_BOOL, offsetof(gd_running, answered), 0, "Its head has been committed."},
    {"headed", T_BOOL, offsetof(gd_running, headed), 0, "And nothing can be written any more."},
    {"left", T_BOOL, offsetof(gd_running, left), 0,
     "Nothing sealed waits for somebody to send it."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot running_slots[] = {
    {Py_tp_init, running_init},
    {Py_tp_call, running_call},
    {Py_tp_traverse, running_traverse},
    {Py_tp_clear, running_clear},
    {Py_tp_dealloc, running_dealloc},
    {Py_tp_members, running_members},
    {0, NULL},
};

int gd_store_run_init(PyObject *module) {
    running_type = gd_store_type(module, "guado._core.RunningBase", sizeof(gd_running),
                                 running_slots, Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC);
    return running_type ? 0 : -1;
}
