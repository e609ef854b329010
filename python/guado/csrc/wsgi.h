/* What the files of the WSGI half share. A pool thread takes a request from the
 * link (wsgi.c), calls the application (wsgi_call.c) with an environ
 * (wsgi_environ.c), a body (wsgi_input.c), a file wrapper (wsgi_file.c) and a text
 * stream (wsgi_errors.c), and sends what it answers (wsgi_response.c).
 * Not here: frames and waiting (link.h), the event loop (asgi*.c).
 *
 * Everything in these files runs with the GIL unless it says [nogil]; the GIL is what
 * guards their fields.
 */
#ifndef GUADO_WSGI_H
#define GUADO_WSGI_H

#include "module.h"

#include <stdbool.h>

/* Answers and chunks up to this size are handed to the link without giving up the
 * GIL: copying them costs less than a thread switch. */
#define WSGI_KEEP_GIL 32768

/* ---- names and types, made once by gd_wsgi_init ---------------------------- */

typedef struct {
    PyTypeObject *response, *input, *errors, *file_wrapper;
    PyObject *client_disconnected, *body_cut; /* exceptions */
    PyObject *file_io, *buffered_reader;      /* io.FileIO, io.BufferedReader */
    PyObject *copy, *run, *close, *raw, *read, *write, *flush, *tell, *fileno, *none_text;
    PyObject *empty; /* "" */
} wsgi_names;

extern wsgi_names wsgi_name;

/* ---- the answer of one request (wsgi_response.c) ---------------------------- */

/* A field of the head: offsets into the response's `text`, which moves as it grows. */
typedef struct {
    uint32_t name, name_len, value, value_len;
} wsgi_field;

/* A set of fields as they go to the link. */
typedef struct {
    char *text;
    size_t used, room;
    wsgi_field *fields;
    gd_field *wire;
    size_t count, fields_room;
    int64_t length; /* Content-Length, -1: not declared */
    uint16_t status;
    uint32_t reason_len; /* the reason stands first in `text` */
} wsgi_head;

/* The object behind start_response, write and wsgi.early_hints. One per thread, used
 * again for the next request when the application kept none of them. */
typedef struct {
    PyObject ob_base;
    gd_link *link;
    gd_stream *stream; /* NULL: no request under way */
    bool started;      /* start_response was accepted */
    bool committed;    /* the head has left */
    bool ended;        /* END has left */
    bool owes_done;    /* END left with BUSY */
    bool no_body;      /* HEAD, 204, 304 */
    bool version_10;   /* HTTP/1.0 knows no informational answers */
    bool surplus;      /* more bytes than declared were dropped, and that was logged */
    bool sending;      /* a thread is inside the link without the GIL */
    int failed;        /* first negative result of a send */
    int64_t sent;      /* bytes of the body */
    wsgi_head head, hints;
    gd_hook hook;
} wsgi_response;

/* Sends an answer that is complete, without fields: of a turn. */
int wsgi_send_whole(wsgi_response *r, uint16_t status, const char *data, size_t n);

int wsgi_response_init(PyObject *module);
wsgi_response *wsgi_response_new(void);
void wsgi_response_begin(wsgi_response *r, gd_link *l, gd_stream *s);
/* The functions an application sees, bound to r. */
PyObject *wsgi_start_response_of(wsgi_response *r);
PyObject *wsgi_early_hints_of(wsgi_response *r);
PyObject *wsgi_disconnected_of(wsgi_response *r);
/* The body is known to have this many bytes: declares them unless the application did.
 * Before the head has left. */
void wsgi_body_is(wsgi_response *r, int64_t total);
/* Sends a chunk, with the head before it when that has not left. WSGI_LAST: nothing
 * follows. WSGI_BUSY: the application is not through with the request when this has
 * left. END goes with the byte that completes the answer; an answer that is shorter
 * than its Content-Length gets none. -1: an exception is set. */
enum { WSGI_LAST = 1, WSGI_BUSY = 2 };
int wsgi_send(wsgi_response *r, const char *data, size_t n, int how);
/* The rest of the answer is this part of a regular file. */
int wsgi_send_file(wsgi_response *r, int fd, uint64_t offset, uint64_t count);
/* The exchange is over: its last commit of stores. */
void wsgi_response_commit(wsgi_response *r);
/* Later calls fail; waits for one of another thread that is under way. */
void wsgi_response_end(wsgi_response *r);

/* The head's text (wsgi_head.c). -1: an exception is set. */
int wsgi_head_parse(wsgi_head *h, PyObject *status, PyObject *headers);
int wsgi_hints_parse(wsgi_head *h, PyObject *headers);
void wsgi_head_wire(wsgi_head *h, gd_head *out);
void wsgi_head_clear(wsgi_head *h);

/* ---- wsgi.input (wsgi_input.c) ---------------------------------------------- */

int wsgi_input_init(PyObject *module);
PyObject *wsgi_input_new(void);
void wsgi_input_begin(PyObject *input, gd_stream *s);
/* A thread of the application is reading right now. */
bool wsgi_input_busy(PyObject *input);
/* Later reads fail; waits for a read of another thread that is under way. */
void wsgi_input_end(PyObject *input);

/* ---- wsgi.errors, wsgi.file_wrapper ------------------------------------------ */

int wsgi_errors_init(PyObject *module);
PyObject *wsgi_errors_new(void);
/* Writes a line that the request left without its end. */
void wsgi_errors_end(PyObject *errors);

int wsgi_file_init(PyObject *module);
/* 1 and the regular file behind an exact file wrapper; 0: iterate it. -1: exception. */
int wsgi_file_regular(PyObject *wrapper, int *fd, uint64_t *offset, uint64_t *count);

/* ---- environ (wsgi_environ.c) ------------------------------------------------- */

/* What stays the same from request to request of a thread, with the values that
 * are in the template now so that they can be compared and not set again. */
typedef struct {
    PyObject *dict; /* the template */
    PyObject *next; /* its copy, made after the last request; NULL: to be made */
    char server_name[256], client_host[64];
    size_t server_name_len, client_host_len;
    uint16_t server_port;
    bool https;
} wsgi_template;

int wsgi_environ_init(void);
int wsgi_template_make(wsgi_template *t, PyObject *fixed);
int wsgi_template_set(wsgi_template *t, const char *key, PyObject *value);
PyObject *wsgi_environ_make(wsgi_template *t, const gd_request *r);

/* ---- threads (wsgi.c) and the call (wsgi_call.c) ------------------------------- */

typedef struct {
    gd_link *link;
    PyObject *apps;     /* tuple by index of HELLO.apps; None: not WSGI */
    PyObject *context;  /* base of every request's own */
    PyObject *fixed;    /* entries of every environ */
    PyObject *describe; /* exception -> (one line, text for the log) */
    PyObject *entered;  /* called once in every thread with its number */
} wsgi_pool;

typedef struct wsgi_thread {
    wsgi_pool *pool;
    struct wsgi_thread *next;
    int number;
    unsigned long ident; /* Python's name of the thread */
    gd_stream *stream;   /* the request that it serves */
    bool inside;         /* … in code of the application */
    bool told;           /* … which was told of its deadline */
    bool pending;        /* … by an exception that is not raised yet, perhaps */
    wsgi_response *response;
    PyObject *start_response;
    PyObject *early_hints, *disconnected;
    PyObject *input, *errors;
    wsgi_template environ;
} wsgi_thread;

/* Serves one request from the call of the application to its close(). */
void wsgi_call(wsgi_thread *t, gd_stream *s);
int wsgi_call_init(void);

/* ---- interrupts (wsgi_interrupt.c) ---------------------------------------------- */

void wsgi_interrupt_add(wsgi_thread *t);
void wsgi_interrupt_remove(wsgi_thread *t);
/* Around what calls the application: only there it is interrupted. */
void wsgi_enter(wsgi_thread *t);
bool wsgi_leave(wsgi_thread *t); /* whether it was inside */
/* The thread of the stream's request raises gd_request_timeout by itself. */
void wsgi_interrupt_told(gd_stream *s);
/* Interrupts the application in this request, once; the thread that serves it, else 0. */
unsigned long wsgi_interrupt(uint32_t stream);

/* A line for the host's log, with the request's id. Gives up the GIL. */
void wsgi_log(gd_link *l, gd_stream *s, int level, const char *text, size_t n);

/* Raises what a negative result of the link means for the application. */
int wsgi_raise(int result, gd_stream *s);

/* Runs `x` without the GIL. */
#define WSGI_NOGIL(x)                                                                              \
    do {                                                                                           \
        PyThreadState *wsgi_saved = PyEval_SaveThread();                                           \
        x;                                                                                         \
        PyEval_RestoreThread(wsgi_saved);                                                          \
    } while (0)

/* A foreign thread may read or write while the request's own thread wants to end the
 * exchange: the latter waits here. Both with the GIL. */
void wsgi_await_idle(const bool *busy);
void wsgi_idle(void);

#endif
