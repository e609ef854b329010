/* ASGI: a REQUEST of the link becomes a call of the application, its messages go back.
 * Before: link.c files frames and keeps credit. After: the application's coroutine.
 * Beside: worker/asgi.py makes the loop, worker/lifespan.py speaks lifespan.
 *
 * Everything in asgi*.c runs in the thread of the event loop, holds the GIL and never
 * blocks. One file per noun: asgi.c the server of one loop, asgi_exchange.c one request
 * and its coroutine, asgi_scope.c its scope, asgi_receive.c and asgi_send.c the two
 * callables, asgi_head.c the fields of an answer, asgi_file.c files,
 * asgi_websocket.c both callables of a WebSocket, asgi_wait.c what a pending receive() or
 * send() is.
 */
#ifndef GUADO_ASGI_H
#define GUADO_ASGI_H

#include "module.h"

/* Strings that the messages and scopes are made of, interned once. */
#define GD_ASGI_NAMES(X)                                                                           \
    X(type, "type")                                                                                \
    X(body, "body")                                                                                \
    X(more_body, "more_body")                                                                      \
    X(status, "status")                                                                            \
    X(headers, "headers")                                                                          \
    X(trailers, "trailers")                                                                        \
    X(more_trailers, "more_trailers")                                                              \
    X(links, "links")                                                                              \
    X(path, "path")                                                                                \
    X(file, "file")                                                                                \
    X(offset, "offset")                                                                            \
    X(count, "count")                                                                              \
    X(http, "http")                                                                                \
    X(https, "https")                                                                              \
    X(asgi, "asgi")                                                                                \
    X(version, "version")                                                                          \
    X(spec_version, "spec_version")                                                                \
    X(v3_0, "3.0")                                                                                 \
    X(v2_5, "2.5")                                                                                 \
    X(http_version, "http_version")                                                                \
    X(v1_0, "1.0")                                                                                 \
    X(v1_1, "1.1")                                                                                 \
    X(v2, "2")                                                                                     \
    X(method, "method")                                                                            \
    X(scheme, "scheme")                                                                            \
    X(raw_path, "raw_path")                                                                        \
    X(query_string, "query_string")                                                                \
    X(root_path, "root_path")                                                                      \
    X(client, "client")                                                                            \
    X(server, "server")                                                                            \
    X(state, "state")                                                                              \
    X(extensions, "extensions")                                                                    \
    X(tls, "tls")                                                                                  \
    X(server_cert, "server_cert")                                                                  \
    X(client_cert_chain, "client_cert_chain")                                                      \
    X(client_cert_name, "client_cert_name")                                                        \
    X(client_cert_error, "client_cert_error")                                                      \
    X(tls_version, "tls_version")                                                                  \
    X(cipher_suite, "cipher_suite")                                                                \
    X(ext_pathsend, "http.response.pathsend")                                                      \
    X(ext_zerocopysend, "http.response.zerocopysend")                                              \
    X(ext_early_hint, "http.response.early_hint")                                                  \
    X(ext_trailers, "http.response.trailers")                                                      \
    X(http_request, "http.request")                                                                \
    X(http_disconnect, "http.disconnect")                                                          \
    X(websocket, "websocket")                                                                      \
    X(ws, "ws")                                                                                    \
    X(wss, "wss")                                                                                  \
    X(subprotocol, "subprotocol")                                                                  \
    X(subprotocols, "subprotocols")                                                                \
    X(ws_connect, "websocket.connect")                                                             \
    X(ws_receive, "websocket.receive")                                                             \
    X(ws_disconnect, "websocket.disconnect")                                                       \
    X(ext_denial, "websocket.http.response")                                                       \
    X(code, "code")                                                                                \
    X(reason, "reason")                                                                            \
    X(bytes, "bytes")                                                                              \
    X(text, "text")                                                                                \
    X(empty, "")                                                                                   \
    X(cancel, "cancel")                                                                            \
    X(close, "close")                                                                              \
    X(copy, "copy")                                                                                \
    X(context, "context")                                                                          \
    X(loop, "loop")                                                                                \
    X(eager_start, "eager_start")                                                                  \
    X(create_task, "create_task")                                                                  \
    X(create_future, "create_future")                                                              \
    X(call_soon, "call_soon")                                                                      \
    X(get_task_factory, "get_task_factory")                                                        \
    X(done, "done")                                                                                \
    X(set_result, "set_result")                                                                    \
    X(throw_, "throw")                                                                             \
    X(await, "__await__")                                                                          \
    X(fileno, "fileno")                                                                            \
    X(tell, "tell")                                                                                \
    X(seek, "seek")                                                                                \
    X(future_blocking, "_asyncio_future_blocking")

#define GD_ASGI_DECLARE(name, text) PyObject *name;
struct gd_asgi_names {
    GD_ASGI_NAMES(GD_ASGI_DECLARE)
};
extern struct gd_asgi_names gd_names;

/* An OSError: send() after the client has left (ASGI HTTP 2.4). */
extern PyObject *gd_client_disconnected;

struct gd_waiter;
struct gd_asgi_held;

/* The server of one event loop (asgi.c). */
typedef struct gd_asgi_server {
    PyObject_HEAD gd_link *link;
    PyObject *link_object; /* keeps `link` valid */
    PyObject *loop;
    PyObject *apps;   /* list: callable, or None for an app of another kind */
    PyObject *states; /* list: what lifespan left in `state`, a dict each */
    PyObject *copy_context, *create_future, *call_soon, *get_task_factory;
    PyObject *task, *task_args, *task_options; /* asyncio.Task and its constant arguments */
    PyObject *report; /* report(stream, what, exception): logs a failed exchange */
    PyObject *news;   /* news(what): "draining", then "idle" (nothing left); "closed", "broken" */
    PyObject *ready;  /* own bound method, for call_soon */
    struct gd_asgi_server *next_server;
    unsigned long thread;           /* Python's name of the loop's thread */
    struct gd_asgi_exchange *first; /* running exchanges; each holds one reference */
    Py_ssize_t running;
    int factory;      /* the application put a task factory on the loop: it is asked for tasks */
    int64_t accepted; /* exchanges since the start */
    int told_draining, told_idle;
} gd_asgi_server;

enum gd_asgi_phase {
    GD_ASGI_IDLE,     /* no http.response.start yet */
    GD_ASGI_HELD,     /* start came and is held until the first body */
    GD_ASGI_BODY,     /* the head has left */
    GD_ASGI_TRAILERS, /* the body is complete, http.response.trailers is owed */
    GD_ASGI_SOCKET,   /* a WebSocket was accepted */
    GD_ASGI_COMPLETE  /* END was sent: what comes now is ignored */
};

/* One request: the coroutine that its task runs, and what receive() and send() know.
 * Not seen by the garbage collector: it is held by its server while it runs, and
 * holds nothing of the application afterwards. */
typedef struct gd_asgi_exchange {
    PyObject_HEAD gd_stream *stream; /* NULL after the end */
    gd_asgi_server *server;
    struct gd_asgi_exchange *next, *prev;
    PyObject *app, *scope; /* until the first step */
    PyObject *coroutine;   /* from the first step to the end */
    PyObject *task;
    struct gd_waiter *waiters; /* pending receive() and send() calls, borrowed */
    struct gd_asgi_held *held; /* the head, or the trailers that came so far */
    int64_t length;            /* Content-Length of the answer; -1 not declared */
    int64_t sent;              /* body bytes of the answer so far */
    uint8_t phase;
    uint8_t begun;        /* the application was called */
    uint8_t stepping;     /* inside the coroutine right now */
    uint8_t interrupted;  /* past its deadline: the task was cancelled */
    uint8_t told;         /* … or got an exception where it blocked the loop */
    uint8_t pending;      /* … which is not raised yet, perhaps */
    uint8_t body_ended;   /* receive() gave the last of the request body */
    uint8_t body_cut;     /* the request body will never be complete */
    uint8_t bodiless;     /* HEAD, 204, 304: nothing of the body leaves */
    uint8_t trailers;     /* start announced trailers, and the client takes them */
    uint8_t cancelled;    /* the drain's deadline cancelled the task */
    uint8_t socket;       /* a WebSocket */
    uint8_t turn;         /* of a page: what the coroutine returns is the answer */
    uint8_t connected;    /* receive() gave websocket.connect */
    uint16_t close_code;  /* that the application closed with */
    PyObject *disconnect; /* the last message of receive(), once it came */
    uint8_t unsent;       /* more is queued than send() lets pass without waiting */
    gd_hook hook;
} gd_asgi_exchange;

/* What a pending call waits for. */
enum gd_wait_kind {
    GD_WAIT_RECEIVE = 1,
    GD_WAIT_SEND = 2,
    GD_WAIT_TURN = 4 /* nothing: other tasks have their turn first */
};

/* asgi.c */
extern PyTypeObject *gd_asgi_exchange_type;
void gd_asgi_unlink(gd_asgi_exchange *x);

/* asgi_exchange.c */
int gd_asgi_exchange_init(PyObject *module);
/* With the first server: a worker without ASGI applications never imports asyncio. */
int gd_asgi_exchange_use_asyncio(void);
gd_asgi_exchange *gd_asgi_exchange_new(gd_asgi_server *server, gd_stream *stream, PyObject *app,
                                       PyObject *scope);
/* Ends the exchange after an error outside the application; the error is reported. */
void gd_asgi_exchange_fail(gd_asgi_exchange *x);
/* 1, 3 or 4 when nobody waits for the answer any more, GD_ASGI_INTERRUPTED after
 * INTERRUPT; 0 otherwise (half-closed too). */
enum { GD_ASGI_INTERRUPTED = 5 };
uint32_t gd_asgi_gone(const gd_asgi_exchange *x);

/* asgi_interrupt.c */
void gd_asgi_interrupt_add(gd_asgi_server *sv);
void gd_asgi_interrupt_remove(gd_asgi_server *sv);
/* Interrupts the request if it blocks the loop, once; the loop's thread then, else 0. */
unsigned long gd_asgi_interrupt(uint32_t stream);
/* The coroutine has given the loop back: nothing reaches it any more but its task. */
void gd_asgi_step_over(gd_asgi_exchange *x);
PyObject *gd_asgi_task(uint32_t stream); /* borrowed, or NULL */
void gd_asgi_cancel_task(gd_asgi_exchange *x);

/* asgi_scope.c */
int gd_asgi_scope_init(void);
PyObject *gd_asgi_scope(const gd_request *r, PyObject *state);

/* asgi_receive.c */
int gd_asgi_receive_init(void);
PyObject *gd_asgi_receive(PyObject *exchange, PyObject *unused);
/* 1 with *message set, 0 nothing yet, -1 an exception. */
int gd_asgi_receive_poll(gd_asgi_exchange *x, PyObject **message);

/* asgi_send.c */
PyObject *gd_asgi_send(PyObject *exchange, PyObject *message);
/* 1 sent, 0 not yet, -1 an exception. */
int gd_asgi_send_poll(gd_asgi_exchange *x);
/* Sends body bytes, after the held head if there is one; the result is what send()
 * returns. `more` 0 completes the body. */
PyObject *gd_asgi_put(gd_asgi_exchange *x, const void *data, size_t n, int more);
/* gd_commit, with the state of the stores that were touched; -1 in *raised: an exception. */
ssize_t gd_asgi_commit(gd_asgi_exchange *x, const gd_pending *p, int what, int *raised);
/* What send() returns for the result of a gd_… call. */
PyObject *gd_asgi_sent(gd_asgi_exchange *x, ssize_t result);
/* Flags of a frame that completes the body, and the phase behind it. */
int gd_asgi_end_of_body(gd_asgi_exchange *x);
/* Refuses what does not fit the declared Content-Length; 0, or -1 with an exception. */
int gd_asgi_count(gd_asgi_exchange *x, uint64_t n, int more);
PyObject *gd_asgi_raise_gone(uint32_t why);

/* http.response.start and .body; a WebSocket is denied by their twins. */
PyObject *gd_asgi_start(gd_asgi_exchange *x, PyObject *message);
PyObject *gd_asgi_body(gd_asgi_exchange *x, PyObject *message);

/* asgi_websocket.c */
int gd_asgi_socket_init(void);
int gd_asgi_socket_receive(gd_asgi_exchange *x, PyObject **message);
PyObject *gd_asgi_socket_send(gd_asgi_exchange *x, PyObject *message, const char *type,
                              Py_ssize_t n);
/* The application returned with its WebSocket open. */
int gd_asgi_socket_returned(gd_asgi_exchange *x);

/* asgi_file.c */
PyObject *gd_asgi_pathsend(gd_asgi_exchange *x, PyObject *message);
PyObject *gd_asgi_zerocopysend(gd_asgi_exchange *x, PyObject *message);

/* asgi_wait.c */
int gd_asgi_wait_init(void);
/* A new reference to the one awaitable that is done already. */
PyObject *gd_asgi_done(void);
PyObject *gd_asgi_wait(gd_asgi_exchange *x, enum gd_wait_kind kind);
/* Lets the waiters of these kinds look again. */
void gd_asgi_wake(gd_asgi_exchange *x, int kinds);
/* Raises what a coroutine's throw(type[, value[, traceback]]) was given. */
void gd_asgi_throw(PyObject *args);

/* asgi_head.c: fields of an answer, copied out of the application's objects. */
typedef struct gd_asgi_held {
    struct gd_asgi_held *next; /* in the free list */
    uint16_t status;
    int64_t length;
    size_t nfields, room_fields;
    gd_field *fields; /* until gd_asgi_held_seal the pointers are offsets into text */
    size_t used, room;
    char *text;
} gd_asgi_held;

gd_asgi_held *gd_asgi_held_new(void);
void gd_asgi_held_free(gd_asgi_held *h);
/* Checks and copies an iterable of (name, value); 0, or -1 with an exception. */
int gd_asgi_held_fields(gd_asgi_held *h, PyObject *headers);
int gd_asgi_held_add(gd_asgi_held *h, const char *name, size_t name_len, const char *value,
                     size_t value_len);
/* Makes the pointers of the fields valid; nothing may be added afterwards. */
void gd_asgi_held_seal(gd_asgi_held *h);

/* message[key], borrowed; NULL without an exception when missing. */
PyObject *gd_asgi_item(PyObject *message, PyObject *key);
/* Truth of message[key]; `missing` when absent; -1 with an exception. */
int gd_asgi_flag(PyObject *message, PyObject *key, int missing);

#endif
