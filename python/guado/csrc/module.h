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
/* … (module_global.c) */
PyObject *gd_py_updates(PyObject *self, PyObject *into);
PyObject *gd_py_updates_wait(PyObject *self, PyObject *ignored);
PyObject *gd_py_updates_watch(PyObject *self, PyObject *ignored);

/* Each adds its functions and types to the module; 0, or -1 with an exception. */
int gd_wsgi_init(PyObject *module);
int gd_interrupt_init(PyObject *module);
int gd_asgi_init(PyObject *module);

#endif
