/* What the files of stores (store_*.c) share: the fast half of _values, _tracked, _writes,
 * _ledger and _locks. Twin of protocol/store.md; the Python half does all that is rare.
 *
 * The GIL guards everything here. A change of a store is made in one go: nothing between
 * the last look and the last step runs code of Python, frees an object or makes one that
 * the collector counts, so no other thread comes between. Where Python code holds the
 * record lock (gd_mutex) instead, the fast half steps back and the Python half waits.
 */
#ifndef GUADO_STORE_H
#define GUADO_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "module.h"
#include "records.h"

enum { GD_MOST_DEPTH = 64, GD_NODE_COST = 32, GD_ITEM_COST = 16 };

/* Results of what may not be for the fast half. */
enum { GD_FAILED = -1, GD_UNFIT = 0, GD_DONE = 1 };

/* Bytes that grow; short ones need no memory of their own. */
typedef struct {
    char *at;
    size_t len, cap;
    char small[240];
} gd_out;

void gd_out_init(gd_out *o);
void gd_out_free(gd_out *o);
int gd_out_room(gd_out *o, size_t more); /* 0, or -1 with MemoryError */
int gd_out_add(gd_out *o, const void *at, size_t n);
int gd_out_u32(gd_out *o, uint32_t n);
void gd_put_u32(char *at, uint32_t n);

typedef struct {
    PyObject ob_base; /* PyObject_HEAD */
    pthread_mutex_t mu;
    bool held;        /* by code of Python */
    pthread_t holder; /* where it is held */
} gd_mutex;

typedef struct {
    PyObject_HEAD PyObject *name, *generations, *touched, *open, *closed, *pickles, *held, *extra;
    char read_only, over;
} gd_exchange;

typedef struct {
    PyObject_HEAD PyObject *lock, *outside;
    long long limit, bytes;
    unsigned long long sequence; /* of the last commit */
} gd_ledger;

typedef struct {
    PyObject_HEAD PyObject *mutex, *waiting;
    unsigned long long token;
} gd_locks;

typedef struct {
    PyObject_HEAD PyObject *locks, *name, *owner, *loop, *queue;
    unsigned long long token;
    Py_ssize_t depth;
} gd_lock;

/* Records that wait, of one transaction or of none. */
typedef struct {
    size_t end;
    uint32_t records;
    uint64_t token;
    PyObject *owner;
} gd_segment;

typedef struct {
    PyObject_HEAD PyObject *ledger, *lock, *gate, *listeners, *root, *owner, *name, *id, *changes,
        *patience, *extra;
    long long limit, bytes;
    unsigned long long version; /* grows with every record */
    char kind, pickles;
    char *pending;
    size_t pending_cap;
    gd_segment *segments;
    uint32_t nsegments, segments_cap;
} gd_store;

/* Where a value with containers inside hangs. */
typedef struct {
    PyObject_HEAD PyObject *store, *node, *key, *value;
} gd_slot;

/* Behind the dict or list that a tracked container is. */
typedef struct {
    PyObject *store, *up, *key;
} gd_tail;

/* What Python has told (store_setup), and the types of here. */
typedef struct {
    PyObject *current;      /* who runs: the method get of a ContextVar */
    PyObject *running_loop; /* of asyncio */
    PyObject *text, *encode, *adopt, *leave, *pickled, *plain, *held, *batch, *taken, *record;
    PyObject *dict, *list, *set; /* TrackedDict, TrackedList, TrackedSet */
    PyObject *name, *generation; /* those words */
    PyTypeObject *mutex, *exchange, *ledger, *locks, *lock, *store, *slot;
    Py_ssize_t dict_tail, list_tail;
} gd_store_types;

extern gd_store_types gd_known;

/* Not in the limited API. */
#define GD_SETREF(at, value)                                                                       \
    do {                                                                                           \
        PyObject *before_ = (at);                                                                  \
        (at) = (value);                                                                            \
        Py_XDECREF(before_);                                                                       \
    } while (0)

static inline bool gd_is(PyObject *o) {
    return o && o != Py_None;
}

static inline gd_tail *gd_tail_of(PyObject *o) {
    Py_ssize_t at = PyDict_Check(o) ? gd_known.dict_tail : gd_known.list_tail;
    return (gd_tail *)((char *)o + at);
}

static inline bool gd_tracks(PyObject *o) {
    return (PyObject *)Py_TYPE(o) == gd_known.dict || (PyObject *)Py_TYPE(o) == gd_known.list;
}

/* A dict or list that has a path of its own. */
static inline bool gd_is_node(PyObject *o) {
    return gd_tracks(o) && !(gd_tail_of(o)->up && Py_TYPE(gd_tail_of(o)->up) == gd_known.slot);
}

static inline bool gd_mutex_held(PyObject *o) {
    return Py_TYPE(o) != gd_known.mutex || ((gd_mutex *)o)->held;
}

/* store_value.c */
int gd_encode(gd_out *o, PyObject *value, int depth);
bool gd_is_plain(PyObject *value); /* it has no parts */
PyObject *gd_py_encode(PyObject *module, PyObject *value);

/* store_path.c: the wire form of paths is u8 keys, then each: u16 length, UTF-8. */
int gd_path_key(gd_out *path, PyObject *key); /* one more; GD_UNFIT: a node cannot have it */
int gd_path_of_node(gd_out *path, PyObject *node);
/* A cached (keys, wire), a new reference; NULL without an error: not for the fast half. */
PyObject *gd_path_parse(PyObject *path);

/* store_build.c */
typedef struct {
    gd_out out; /* records */
    uint32_t records;
    long long cost;
} gd_plan;

void gd_plan_init(gd_plan *p);
/* The object that is put at a path, NULL when unfit or with an error. */
PyObject *gd_build(gd_plan *p, PyObject *store, PyObject *up, const gd_out *path, PyObject *key,
                   PyObject *value);
PyObject *gd_item(PyObject *store, PyObject *node, PyObject *value, gd_out *o);
PyObject *gd_adopt(PyObject *value, PyObject *slot, int depth);
int gd_leave(PyObject *value);
int gd_weigh(PyObject *key, PyObject *value, long long *cost);

/* store_core.c */
PyObject *gd_enter(gd_store *s, bool write); /* the exchange, a new reference */
PyObject *gd_current(void);
PyObject *gd_owner_name(gd_store *s); /* a new reference */
int gd_pending_room(gd_store *s, size_t more);
void gd_pending_add(gd_store *s, const gd_plan *p, PyObject *owner, uint64_t token);

/* What a commit of the exchange takes of a store; false: nothing. */
typedef struct {
    unsigned long long token;
    unsigned records;
    const char *at; /* the store's, until its next change */
    size_t len;
} gd_waiting;

bool gd_pending_look(const gd_store *s, PyObject *exchange, gd_waiting *out);
PyObject *gd_pending_take(gd_store *s, PyObject *exchange); /* as a tuple, or None */
void gd_pending_drop(gd_store *s, PyObject *exchange);      /* it is with the commit now */

/* store_commit.c */
PyObject *gd_py_commit(PyObject *ledger, PyObject *args);
PyObject *gd_py_encode_state(PyObject *module, PyObject *args);
PyObject *gd_py_commit_now(PyObject *module, PyObject *args);
/* Gathers what the exchange has touched (with `even` also nothing), and seals it with the head
 * that the request of `handle` (or None) is about to send, or alone. 0: there was nothing. */
int gd_commit_now(gd_ledger *l, gd_exchange *x, PyObject *handle, bool head, PyObject *link,
                  const char *more, size_t n, bool even);

/* A named tuple; its fields (NULL: an error) are given away. */
PyObject *gd_named(PyObject *type, PyObject *fields);

/* store_read.c */
PyObject *gd_py_read(PyObject *module, PyObject *data);

/* store_types.c */
int gd_mutex_lock(PyObject *o); /* 0, or -1 with an exception */
void gd_mutex_unlock(PyObject *o);

/* store_put.c */
int gd_put(gd_store *s, PyObject *exchange, PyObject *node, const gd_out *path, PyObject *key,
           PyObject *value);
int gd_append(gd_store *s, PyObject *node, PyObject *value);
int gd_unfit_or_failed(void); /* what Python would say better, it is asked to say */
bool gd_may(gd_store *s, PyObject *exchange, PyObject *node, long long cost);
void gd_record_change(gd_store *s, PyObject *exchange, const gd_plan *p, long long cost);
int gd_tell(gd_store *s, PyObject *exchange, const gd_out *path, bool deleted);

/* store_splice.c: *old is what was there, a new reference, where GD_DONE. */
int gd_remove(gd_store *s, PyObject *exchange, PyObject *node, const gd_out *path, PyObject *key,
              PyObject **old);
/* In a list: the item at a place gives way to `value` (replace), goes (no value), or gets
 * `value` before it. */
int gd_splice(gd_store *s, PyObject *node, Py_ssize_t at, bool replace, PyObject *value,
              PyObject **old);

/* store_inside.c */
int gd_put_inside(gd_store *s, PyObject *dict, PyObject *key, PyObject *value);

/* Each adds its types and functions to the module; 0, or -1 with an exception. */
PyTypeObject *gd_store_type(PyObject *module, const char *name, size_t size, PyType_Slot *slots,
                            unsigned long flags);
int gd_store_locks_init(PyObject *module);
int gd_store_run_init(PyObject *module);
int gd_store_tracked_init(PyObject *module);
int gd_store_store_init(PyObject *module);

#endif
