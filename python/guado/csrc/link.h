/* The worker's end of the link (protocol/link.md). Twin of internal/link.
 *
 * Pure C and pthreads: nothing here touches Python, so everything in it can run
 * without the GIL, in the watch thread, and under a sanitizer or fuzzer.
 *
 * Threads: any number of waiters (pool threads, one event loop thread) and one
 * watch thread. A waiter becomes the reader of the ring when nobody is; filing a
 * frame to its stream never needs the GIL. Nobody holds a lock of this file while
 * taking the GIL: functions marked [nogil] may block and are called without it,
 * the others return at once.
 */
#ifndef GUADO_LINK_H
#define GUADO_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct gd_link gd_link;
typedef struct gd_stream gd_stream;

/* The version of protocol/link.md spoken here. */
enum { GD_PROTOCOL = 1 };

/* Results: >= 0 is success. */
enum {
    GD_OK = 0,
    GD_AGAIN = -1,   /* would block (non-blocking calls) */
    GD_GONE = -2,    /* the exchange was cancelled: client gone, deadline, stopping */
    GD_CLOSED = -3,  /* the link is closed: host gone, or this is a forked child */
    GD_CORRUPT = -4, /* the host broke the protocol, or a value does not fit a frame */
    GD_NOMEM = -5,
    GD_REVOKED = -6, /* the host took the request back before it was started */
    GD_CUT = -7,     /* the request body was cut (client gone or malformed) */
    GD_DRAINED = -8, /* DRAIN was received and no request is left */
    GD_TIMEOUT = -9
};

enum gd_app_kind { GD_WSGI = 1, GD_ASGI = 2 };

typedef struct {
    const char *at;
    size_t len;
} gd_str;

typedef struct {
    gd_str name, value;
} gd_field;

/* What TURN asks for, from `open` on in the order of the protocol. */
enum { GD_TURN_OPEN = 1, GD_TURN_ON = 7, GD_TURN_HTTP = 8, GD_TURN_WRITE = 9 };

/* A decoded TURN; do_ 0: it was a REQUEST. `rest` is what few turns need, as it came:
 * class, args, topic, why. */
typedef struct {
    uint8_t do_;
    bool opened;
    gd_str page, user, connection, data, rest;
} gd_turn;

/* A decoded REQUEST or TURN; of a turn `app` is set, and `turn`. The strings point into memory of
 * the stream and live until gd_stream_release. */
typedef struct {
    uint8_t version; /* 10, 11, 20 */
    uint16_t flags;  /* GD_REQ_* */
    uint16_t app;
    int64_t length;
    uint16_t tls_version, tls_cipher;
    uint16_t server_port, client_port;
    gd_str id, method, scheme, path, raw_path, query, target, root, server_name, client_host,
        traceparent;
    uint16_t nfields;
    gd_field *fields;
    gd_turn turn;
} gd_request;

enum {
    GD_REQ_NO_LENGTH = 1,
    GD_REQ_EXPECT = 2,
    GD_REQ_TRAILERS = 4,
    GD_REQ_HEAD = 8,
    GD_REQ_SOCKET = 16
};

/* Frame flags. */
enum { GD_END = 1, GD_MORE = 2, GD_BUSY = 4, GD_ALONE = 8 };

/* ---- life cycle ---------------------------------------------------------- */

/* Opens the link named by GUADO_LINK ("shm:…" or "socket:…"). Sets close-on-exec
 * and MADV_DONTFORK. *why is a static text on failure. */
int gd_link_open(const char *spec, gd_link **out, const char **why);

/* [nogil] Waits for HELLO; *json is malloc'ed: gd_link_free_json. */
int gd_link_hello(gd_link *l, char **json, size_t *len, int timeout_ms);
void gd_link_free_json(char *json);

/* [nogil] READY or FAILED (kind = frame kind). After READY, requests are taken. */
int gd_link_announce(gd_link *l, int kind, const char *json, size_t len);

/* Tells which kind each app index has, the credits, and starts the watch thread.
 * `kinds` has napps entries of gd_app_kind. */
int gd_link_serve(gd_link *l, const uint8_t *kinds, size_t napps, uint32_t request_credit,
                  uint32_t response_credit, uint32_t file_credit);

/* 1 once DRAIN came; *left_ms (unless NULL) is what is left of its grace, negative when
 * that is over. */
int gd_link_draining(gd_link *l, int64_t *left_ms);

/* [nogil] The main thread of a worker without a loop sits here: returns GD_DRAINED
 * when DRAIN came and every exchange has ended, GD_CLOSED when the host is gone,
 * GD_TIMEOUT after timeout_ms, when DRAIN came meanwhile and exchanges are left, and
 * at a signal (so that the caller can look at the grace and at signals). */
int gd_link_wait_drained(gd_link *l, int timeout_ms);

/* [nogil] */
int gd_link_log(gd_link *l, uint32_t stream, int level, const char *text, size_t len);

void gd_link_close(gd_link *l);

/* ---- requests ------------------------------------------------------------ */

/* [nogil] A pool thread waits for the next WSGI request (leader and followers).
 * GD_DRAINED or GD_CLOSED: the thread ends. The returned stream was moved to
 * started already; revoked ones are skipped. */
int gd_next_wsgi(gd_link *l, gd_stream **out);

/* Called by that thread once it has the GIL: counts how long that took. */
void gd_stats_gil(const gd_stream *s);

const gd_request *gd_stream_request(const gd_stream *s);
uint32_t gd_stream_id(const gd_stream *s);

/* Why the exchange was cancelled: 0 not, else CANCEL's arg (2: half-closed). */
uint32_t gd_stream_cancelled(const gd_stream *s);

/* Owner's pointer for asgi.c (the Exchange object). */
void gd_stream_set_owner(gd_stream *s, void *owner);
void *gd_stream_owner(const gd_stream *s);

/* Ends the use of the stream. The answer must have been ended (END without BUSY,
 * DONE or ABORT); otherwise this sends ABORT 2. Never blocks. */
void gd_stream_release(gd_stream *s);

/* ---- interrupts ----------------------------------------------------------- */

/* Whoever waits here and gets the GIL afterwards says so: Python's heartbeat. */
void gd_stats_python(gd_link *l);

/* [nogil] Waits until there is one to take: GD_OK, GD_TIMEOUT or GD_CLOSED. */
int gd_interrupt_wait(gd_link *l, int timeout_ms);

/* The stream of the oldest INTERRUPT. To be called with the GIL: until then the watch
 * thread takes it for held, and has the stacks printed when that lasts. */
bool gd_interrupt_take(gd_link *l, uint32_t *stream);

/* The signal that makes faulthandler print the stacks of all threads. */
void gd_interrupt_signal(gd_link *l, int number);

/* INTERRUPT came for it. */
bool gd_interrupted(const gd_stream *s);

/* The application has the request of this stream: started, and not released. */
bool gd_under_way(gd_link *l, uint32_t stream);

/* ---- request body -------------------------------------------------------- */

/* [nogil] Copies up to n bytes (n > 0) into buf, waiting for at least one.
 * 0: end of body. GD_GONE, GD_CUT, GD_CLOSED. Sends INFORMATIONAL 100 at the first
 * call when the request carries GD_REQ_EXPECT; returns credit. */
ssize_t gd_read(gd_stream *s, void *buf, size_t n);

/* Same without waiting: GD_AGAIN when nothing is there yet. */
ssize_t gd_read_now(gd_stream *s, void *buf, size_t n);

/* Bytes that gd_read_now would give now; *ended set when no more will come. */
size_t gd_readable(gd_stream *s, int *ended);

/* ---- answer --------------------------------------------------------------
 * Each of these sends one message, in order, fragmenting what is larger than a
 * frame or than the credit at hand. `wait` 1: [nogil] block for room and credit
 * (GD_GONE when cancelled, GD_CLOSED). `wait` 0: never block, for the loop thread:
 * the message is queued (copied) on the stream and leaves when room and credit come;
 * returns the bytes now queued and unsent (0: all sent; a file counts as GD_FILE_WEIGHT),
 * so that the caller can hold its coroutine until gd_loop_event reports the stream drained.
 *
 * A pool thread that holds the GIL may send with `wait` 0 too and, only when the
 * result is > 0, release the GIL for gd_flush: the usual answer then leaves without
 * touching the GIL. */

/* A descriptor that waits for credit is kept open: nobody sends many of them ahead. */
enum { GD_FILE_WEIGHT = 1 << 20 };

typedef struct {
    uint16_t status;
    int64_t length; /* -1 unknown */
    gd_str reason;
    uint16_t nfields;
    const gd_field *fields;
} gd_head;

ssize_t gd_commit(gd_stream *s, const gd_head *h, const void *body, size_t n, int flags, int wait);
ssize_t gd_body(gd_stream *s, const void *body, size_t n, int flags, int wait);
ssize_t gd_trailers(gd_stream *s, const gd_field *f, uint16_t n, int flags, int wait);
ssize_t gd_informational(gd_stream *s, const gd_head *h, int wait);
ssize_t gd_file(gd_stream *s, int fd, uint64_t offset, uint64_t count, int flags, int wait);
ssize_t gd_abort(gd_stream *s, uint32_t reason, const char *text, size_t n);
ssize_t gd_done(gd_stream *s);

/* [nogil] Blocks until everything queued on the stream has left. */
ssize_t gd_flush(gd_stream *s);

/* ---- state (commit.c, restore.c) --------------------------------------------
 * A commit is sealed under the worker's record lock, in the order in which the host gets
 * it: sealing copies and never waits. gd_push sends what was sealed. */

/* Seals gd_commit, with the state that the host is to apply before it. < 0: the answer is
 * refused, and the state goes alone. */
ssize_t gd_seal_commit(gd_stream *s, const gd_head *h, const void *body, size_t n, int flags,
                       const void *at, size_t len);
/* Seals state that belongs to no answer; `about`: the stream's number, or 0. */
uint32_t gd_stream_number(const gd_stream *s); /* on the wire */
int gd_seal_alone(gd_link *l, uint32_t about, const void *state, size_t n);
/* The result is that of gd_commit with `wait` 0. */
ssize_t gd_push(gd_stream *s);
/* `wait`: [nogil] until all that was sealed has left. */
int gd_commits_push(gd_link *l, bool wait);

typedef struct {
    uint8_t kind; /* of the frame */
    const uint8_t *data;
    size_t len;
    void *memory; /* gd_restore_free */
} gd_restored;

/* The oldest RESTORE or RELEASE that nobody has taken; GD_AGAIN. */
int gd_restore_take(gd_link *l, gd_restored *out);
void gd_restore_free(gd_restored *r);
/* [nogil] Waits until many wait to be taken, or for gd_restore_poke. */
int gd_restore_wait(gd_link *l);
void gd_restore_poke(gd_link *l);

/* ---- WebSocket (message.c) -------------------------------------------------
 * A request with GD_REQ_SOCKET is accepted by gd_commit of status 101, without a body. */

enum { GD_TEXT = 1, GD_BINARY = 2, GD_MAX_CLOSE_REASON = 123 };

typedef struct {
    bool text, disconnect;
    uint16_t code; /* of disconnect; the message is its reason then */
    size_t len;
    struct gd_chunk *chunks;
} gd_message;

/* Takes the next message, or the client's disconnect, which is the last. GD_AGAIN: none
 * yet; GD_GONE: cancelled. gd_message_free it. */
int gd_message_take(gd_stream *s, gd_message *out);
void gd_message_copy(const gd_message *m, void *to);
const char *gd_message_whole(const gd_message *m); /* NULL: it has several parts */
void gd_message_free(gd_message *m);

/* As gd_body and its like with `wait` 0. The flags of a close are 0 or GD_BUSY. */
ssize_t gd_message_send(gd_stream *s, bool text, const void *data, size_t n);
ssize_t gd_message_close(gd_stream *s, uint16_t code, const char *reason, size_t n, int flags);

/* Frees what the request takes, once nobody needs it: a WebSocket may stay for days. */
void gd_stream_forget_request(gd_stream *s);

/* ---- event loop ---------------------------------------------------------- */

/* Descriptor for loop.add_reader: readable when gd_loop_drain has something to do. */
int gd_loop_fd(gd_link *l);

/* Second descriptor for the same callback, or -1: written when another thread filed
 * something for the loop. Register both; gd_loop_drain clears both. */
int gd_loop_wake_fd(gd_link *l);

/* The loop's callback: drains the ring, files frames, re-arms the wake-up. Then
 * take what there is with gd_loop_request and gd_loop_event. Fast; may be called
 * with the GIL. GD_CLOSED when the host is gone. */
int gd_loop_drain(gd_link *l);

/* Next new ASGI request in order of arrival, not yet started: call gd_start right
 * before the application is called. GD_AGAIN when there is none. */
int gd_loop_request(gd_link *l, gd_stream **out);
int gd_start(gd_stream *s); /* GD_OK or GD_REVOKED (then gd_stream_release) */

/* Next stream with news since the last call: body bytes or their end, CANCEL, sent
 * queue drained. GD_AGAIN when there is none. */
enum { GD_EV_BODY = 1, GD_EV_CANCEL = 2, GD_EV_DRAINED = 4, GD_EV_INTERRUPT = 8 };
int gd_loop_event(gd_link *l, gd_stream **out, int *events);

/* ---- calls (call.c) -------------------------------------------------------- */

typedef struct {
    uint32_t id;
    const uint8_t *data;
    size_t len;
    void *memory; /* gd_reply_free */
} gd_reply;

/* Sends CALL or CALL_CANCEL (kind) without waiting: what has no room is copied. */
int gd_link_call(gd_link *l, int kind, uint32_t id, const void *data, size_t len);

/* [nogil] Waits for the next reply of the host. */
int gd_link_reply(gd_link *l, bool wait, gd_reply *out);
void gd_reply_free(gd_reply *r);

/* A thread waits for one reply, and reads meanwhile where nobody does: a pool thread, or the
 * event loop's inside a callback; beside a loop no other one may (GD_AGAIN). First it says which
 * reply, at the end that it has done with it; in between gd_expected waits: GD_OK, GD_TIMEOUT,
 * GD_AGAIN after gd_expected_wake, GD_CLOSED. */
int gd_expect(gd_link *l, uint32_t id);
int gd_expected(gd_link *l, uint32_t id, int timeout_ms, gd_reply *out); /* [nogil] */
void gd_expected_end(gd_link *l, uint32_t id);
void gd_expected_wake(gd_link *l, uint32_t id); /* any thread */
bool gd_loop_leads(gd_link *l);                 /* the loop waits so now, and nobody else reads */

/* ---- the global store (global.c) -------------------------------------------- */

/* Takes the oldest update that was filed: whole, and those before it were taken. GD_AGAIN:
 * there is none. gd_reply_free it. */
int gd_link_update(gd_link *l, gd_reply *out);
/* [nogil] Waits until updates heap up; once watched, until there is one. */
int gd_link_updates_wait(gd_link *l);
int gd_link_updates_watch(gd_link *l);

/* ---- frames (frame.c): pure functions, fuzzed ---------------------------- */

typedef struct {
    uint32_t size, stream, arg;
    uint8_t kind, flags;
} gd_frame_head;

int gd_frame_decode_head(const uint8_t *at, size_t n, uint32_t max_frame, gd_frame_head *out);
/* `fields` is malloc'ed into r->fields; free with gd_request_clear. body points into `at`. */
int gd_request_decode(const uint8_t *at, size_t n, gd_request *r, gd_str *body);
void gd_request_clear(gd_request *r);
int gd_turn_decode(const uint8_t *at, size_t n, gd_request *r);

#endif
