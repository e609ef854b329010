/* What the files of guado._core that know Python share. The link itself (link.h)
 * knows none of it. Before: boot.py opens the link. After: wsgi*.c and asgi*.c.
 */
#ifndef GUADO_MODULE_H
#define GUADO_MODULE_H

#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "link.h"

/* The link behind a guado._core.Link; NULL with a TypeError or ValueError (closed)
 * set. Valid as long as the object lives and close() was not called. */
gd_link *gd_link_of(PyObject *link);

/* Sets the exception that fits a negative result: GD_GONE and GD_CUT an OSError
 * (ConnectionResetError), GD_CLOSED guado._core.LinkClosed (an OSError too), others
 * RuntimeError or MemoryError. Always returns NULL. */
PyObject *gd_raise(int result);

/* guado.RequestTimeout: what an application is told whose request is past its deadline. */
extern PyObject *gd_request_timeout;

/* Methods of guado._core.Link (module_call.c). */
PyObject *gd_py_call(PyObject *self, PyObject *args);
PyObject *gd_py_call_cancel(PyObject *self, PyObject *args);
PyObject *gd_py_replies(PyObject *self, PyObject *ignored);
PyObject *gd_py_loop_leads(PyObject *self, PyObject *ignored);
PyObject *gd_py_expect(PyObject *self, PyObject *id);
PyObject *gd_py_expected(PyObject *self, PyObject *args);
PyObject *gd_py_expected_end(PyObject *self, PyObject *id);
PyObject *gd_py_expected_wake(PyObject *self, PyObject *id);
/* … (module_global.c) */
PyObject *gd_py_updates(PyObject *self, PyObject *into);
PyObject *gd_py_updates_wait(PyObject *self, PyObject *ignored);
PyObject *gd_py_updates_watch(PyObject *self, PyObject *ignored);

/* Methods of guado._core.Link (module_state.c). */
PyObject *gd_py_seal(PyObject *self, PyObject *args);
PyObject *gd_py_push(PyObject *self, PyObject *args);
PyObject *gd_py_restores(PyObject *self, PyObject *ignored);
PyObject *gd_py_restore_wait(PyObject *self, PyObject *ignored);
PyObject *gd_py_restore_poke(PyObject *self, PyObject *ignored);

/* A head that is about to leave. */
typedef struct {
    const gd_head *head;
    const void *body;
    size_t n;
    int flags;
} gd_pending;

/* What an exchange that has touched a store has of it. */
typedef struct {
    PyObject *call; /* hook(what); NULL: it has touched none */
    const gd_pending *pending;
    bool sealed;
    ssize_t result; /* of that */
} gd_hook;

/* What the hook is told: the head is about to leave (of an accepted WebSocket), the exchange
 * is over, a message of a WebSocket is about to leave. */
enum { GD_HOOK_HEAD, GD_HOOK_END, GD_HOOK_MESSAGE, GD_HOOK_ACCEPT };

/* 1: the hook has sealed the head, and *result is what gd_commit gives with `wait` 0.
 * 0: it has not. -1: an exception. Only where h->call is set. */
int gd_hook_commit(gd_hook *h, gd_stream *s, const gd_pending *pending, int what, ssize_t *result);
int gd_hook_call(gd_hook *h, int what); /* 0, or -1 with an exception */
/* Seals the head that the request of `handle` is about to send. 1: it goes with this state;
 * 0: none is about to leave; -1: an exception. */
int gd_hook_seal(PyObject *handle, const void *state, size_t n);
uint32_t gd_hook_number(PyObject *handle); /* of its stream; 0: it has ended, or is none */
/* The last call, if there is a hook; keeps the exception that is set. */
void gd_hook_end(gd_hook *h, PyObject *whose);

/* The thread has put a state into the commit queue (since somebody set it to false): an
 * interrupt of the application may have made the code fail that was about to say so. */
extern _Thread_local bool gd_has_sealed;

/* The usual hook (store_run.c). */
bool gd_is_running(PyObject *o);
int gd_running_hook(PyObject *running, int what);

/* Each adds its functions and types to the module; 0, or -1 with an exception. */
int gd_wsgi_init(PyObject *module);
int gd_interrupt_init(PyObject *module);
int gd_asgi_init(PyObject *module);
int gd_state_init(PyObject *module);
int gd_store_init(PyObject *module);

/* ---- turns of pages (module_turn.c) ------------------------------------------------- */

int gd_turn_init(void);
PyObject *gd_py_decode_turn(PyObject *module, PyObject *args);
/* What the hidden application is called with; a new tuple. */
PyObject *gd_turn_args(const gd_turn *t, PyObject *handle);

/* What it returned: bytes, or (status, bytes, failure or None). Borrowed from that. */
typedef struct {
    uint16_t status;
    const char *data;
    size_t len;
    PyObject *failure; /* an exception for the log; NULL: none */
} gd_turn_answer;

int gd_turn_answered(PyObject *result, gd_turn_answer *out);

#endif
