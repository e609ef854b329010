/* What the files of the link share among themselves. Contract for others: link.h.
 *
 * One lock, gd_link.mu, guards everything marked [mu]. It is held for memory operations
 * only: never across a system call, a wait, or the GIL. What must follow (ringing a
 * bell, flushing) is noted in gd_link.todo and done by gd_unlock; only the loop's bell
 * is rung under it. The *claim* is the right to read the wire; its holder alone touches
 * what is marked [claim], without the lock.
 */
#ifndef GUADO_INTERNAL_H
#define GUADO_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "link.h"

enum {
    GD_HEADER = 16,
    GD_MAX_SLOTS = 65536,
    GD_SOCKET_SLOTS = 16384,
    GD_SOCKET_RING = 1 << 20,  /* sets the largest frame on the socket transport */
    GD_MAX_MESSAGE = 4 << 20,  /* a REQUEST after reassembly */
    GD_MAX_TURN = 512 << 20,   /* a TURN after reassembly: what the host holds bounds it */
    GD_MAX_JSON = 256 << 10,   /* a JSON message after reassembly */
    GD_MAX_TEXT = 16 << 10,    /* a text in ABORT */
    GD_MESSAGE_COST = 64,      /* of credit, beside a message's bytes */
    GD_KEEP_STREAMS = 256,     /* unused streams kept for the next requests */
    GD_KEEP_BUFFER = 32 << 10, /* largest buffer an unused stream keeps */
    /* An application is slow from here on. Threads that wait for each other's GIL make
     * short requests look slow: 64 threads of 20 µs stay below. */
    GD_SLOW_US = 3000,
    GD_TICK_US = 500, /* watch thread while there is work */
    GD_IDLE_TICKS = 8 /* ticks without work before it parks */
};

enum gd_kind {
    GD_K_HELLO = 0x01,
    GD_K_REQUEST = 0x02,
    GD_K_BODY = 0x03,
    GD_K_CANCEL = 0x04,
    GD_K_INTERRUPT = 0x05,
    GD_K_FILE_CREDIT = 0x0c,
    GD_K_CREDIT_DOWN = 0x0d,
    GD_K_DRAIN = 0x0e,
    GD_K_PING = 0x0f,
    GD_K_REPLY = 0x10,
    GD_K_GLOBAL = 0x13,
    GD_K_RESTORE = 0x11,
    GD_K_RELEASE = 0x12,
    GD_K_APPLY = 0x15,
    GD_K_TURN = 0x14,
    GD_K_MESSAGE = 0x06,
    GD_K_DISCONNECT = 0x07,
    GD_K_READY = 0x41,
    GD_K_COMMIT = 0x42,
    GD_K_STARTED = 0x43,
    GD_K_INFORMATIONAL = 0x44,
    GD_K_RESPONSE_BODY = 0x45,
    GD_K_TRAILERS = 0x46,
    GD_K_FILE = 0x47,
    GD_K_CREDIT_UP = 0x48,
    GD_K_PONG = 0x49,
    GD_K_LOG = 0x4a,
    GD_K_STATS = 0x4b,
    GD_K_FAILED = 0x4c,
    GD_K_ABORT = 0x4d,
    GD_K_DONE = 0x4e,
    GD_K_CALL = 0x4f,
    GD_K_CALL_CANCEL = 0x50,
    GD_K_MESSAGE_UP = 0x51,
    GD_K_CLOSE = 0x52,
    GD_K_STATE = 0x53,
    GD_K_PAD = 0x7f
};

/* What gd_unlock does after it let the lock go. */
enum {
    GD_TODO_FLUSH = 1,
    GD_TODO_FDS = 2,
    GD_TODO_WATCH = 8,
    GD_TODO_MAIN = 16,
    GD_TODO_KICK = 32,
    GD_TODO_INTERRUPT = 64
};

/* Slot words (shared memory): generation << 16 | state. */
enum { GD_SLOT_FREE = 0, GD_SLOT_QUEUED = 1, GD_SLOT_STARTED = 2, GD_SLOT_REVOKED = 3 };

/* Who reads by default. */
enum gd_mode {
    GD_MODE_BOOT,    /* the watch thread: the main thread imports the application */
    GD_MODE_THREADS, /* leader and followers */
    GD_MODE_LOOP,    /* the event loop's thread */
    GD_MODE_MIXED    /* the watch thread feeds pool threads and a loop */
};

/* ---- platform.c: what differs between systems ----------------------------- */

/* A bell: level-triggered, never blocks the ringer. */
typedef struct {
    int r, w;
} gd_event;

int gd_event_open(gd_event *e);
void gd_event_close(gd_event *e);
void gd_event_ring(const gd_event *e);
void gd_event_clear(const gd_event *e);
int64_t gd_now_us(void);
int64_t gd_now_ms(void);
void gd_cloexec(int fd);
/* Polls up to four descriptors; timeout in microseconds, -1 for ever. */
struct pollfd;
int gd_poll(struct pollfd *fds, unsigned n, int64_t timeout_us);
int gd_thread_start(pthread_t *t, void *(*run)(void *), void *arg);
void gd_mutex_init(pthread_mutex_t *m);

/* ---- frame.c --------------------------------------------------------------- */

uint16_t gd_get16(const uint8_t *p);
uint32_t gd_get32(const uint8_t *p);
uint64_t gd_get64(const uint8_t *p);
uint8_t *gd_put16(uint8_t *p, uint16_t v);
uint8_t *gd_put32(uint8_t *p, uint32_t v);
uint8_t *gd_put64(uint8_t *p, uint64_t v);
static inline size_t gd_padded(size_t n) {
    return (n + 7) & ~(size_t)7;
}
void gd_frame_encode_head(uint8_t *at, uint32_t size, uint8_t kind, uint8_t flags, uint32_t stream,
                          uint32_t arg);
/* Like gd_request_decode, reusing r->fields of *cap entries. */
int gd_request_decode_into(const uint8_t *at, size_t n, gd_request *r, uint32_t *cap, gd_str *body);
size_t gd_fields_size(const gd_field *f, uint16_t n); /* SIZE_MAX: does not fit the wire */
uint8_t *gd_fields_encode(uint8_t *p, const gd_field *f, uint16_t n);
size_t gd_head_size(const gd_head *h);
uint8_t *gd_head_encode(uint8_t *p, const gd_head *h);

/* ---- streams --------------------------------------------------------------- */

typedef struct gd_chunk {
    struct gd_chunk *next;
    uint32_t len, off;
    /* of a WebSocket's message or disconnect */
    uint32_t arg;
    uint8_t what;
    bool more, paid;
    uint8_t data[];
} gd_chunk;

/* A descriptor on its way out. */
typedef struct gd_fd {
    struct gd_fd *next;
    int fd;
    uint32_t stream, seq;
} gd_fd;

/* State on its way out (commit.c). */
typedef struct gd_entry gd_entry;

/* A message on its way out: bytes that cost no credit, then bytes that may. */
typedef struct gd_out {
    struct gd_out *next;
    uint8_t kind, flags;
    bool heap; /* one malloc'ed block with its bytes; else the waiting caller's */
    bool done; /* left, or dropped: the waiting caller looks */
    uint32_t arg;
    const uint8_t *head, *body;
    size_t head_len, head_off, body_len, body_off;
    size_t inline_len;      /* COMMIT: how much of the body goes with the head */
    bool begun;             /* … and that was decided */
    gd_fd *file;            /* FILE: the descriptor to pass */
    uint32_t about;         /* LOG: the exchange it is about, else 0 */
    struct gd_entry *entry; /* COMMIT: of the commit queue, which sends it; else NULL */
} gd_out;

enum {
    GD_DUE_STARTED = 1,
    GD_DUE_CONTINUE = 2,
    GD_DUE_CREDIT = 4,
    GD_DUE_PONG = 8,
    GD_DUE_ABORT = 16,
    GD_DUE_STATS = 32
};

struct gd_stream { /* [mu], but the decoded request: written before it is queued */
    gd_link *link;
    gd_stream *next;       /* free list, request queue */
    gd_stream *event_next; /* queue of news for the loop */
    gd_stream *ready_next; /* round robin of streams with something to send */
    uint32_t id;
    uint8_t kind; /* gd_app_kind, 0 for stream 0 */
    bool queued, in_events, in_ready;
    bool assembled; /* REQUEST complete */
    bool turn;      /* … or TURN */
    bool started;   /* handed to the application */
    bool ended;     /* the message with END was given to the link */
    bool over;      /* … and nothing follows: END without BUSY, DONE or ABORT */
    bool finished;  /* … and that frame left: out of the table */
    bool released;  /* the owner is through with it */
    bool revoked;
    bool interrupted;
    bool body_ended, cut;
    uint8_t due; /* GD_DUE_*: small frames that overtake the stream's own queue */
    uint32_t cancelled;
    uint32_t events;
    uint32_t waiters;
    uint32_t file_seq;
    int64_t taken_us; /* when a thread took it, or the loop: the GIL comes after */
    void *owner;
    /* request */
    uint8_t *buf;
    size_t buf_len, buf_cap;
    gd_request request;
    uint32_t fields_cap;
    gd_str rest; /* of the inline body */
    gd_chunk *body_head, *body_tail;
    bool socket;          /* a WebSocket: the chunks are messages */
    uint32_t messages;    /* complete ones, a disconnect included */
    size_t body_bytes;    /* in chunks */
    uint32_t body_credit; /* what the host may still send */
    uint32_t body_back;   /* read and not returned as credit yet */
    /* answer */
    gd_out *out_head, *out_tail;
    size_t out_bytes;
    uint64_t credit;
    uint32_t file_credit;
};

typedef struct gd_waiter {
    struct gd_waiter *next, *prev;
    gd_stream *stream; /* NULL: an idle pool thread */
    pthread_cond_t cond;
    bool signalled, leader;
    bool woken; /* counted in gd_link.waking */
} gd_waiter;

typedef struct {
    gd_waiter *head, *tail;
} gd_waiters;

/* ---- the wire: shm.c and sock.c -------------------------------------------- */

typedef struct {
    /* [claim] */
    int (*look)(gd_link *l);                   /* reads what the host published; < 0 broken */
    int (*peek)(gd_link *l, gd_frame_head *h); /* 1 a frame, 0 none in this look, < 0 */
    void (*copy)(gd_link *l, size_t off, void *to, size_t n); /* of the peeked frame */
    void (*advance)(gd_link *l, const gd_frame_head *h);
    void (*drained)(gd_link *l);                   /* tells the host how far */
    void (*sleep)(gd_link *l, int64_t timeout_ms); /* until the host or a kick wakes */
    bool (*arm)(gd_link *l); /* loop mode: asks for a wake-up; false: there is news already */
    /* any thread */
    bool (*unread)(gd_link *l); /* a guess, for the watch thread */
    void (*kick)(gd_link *l);
    /* [mu] */
    uint8_t *(*reserve)(gd_link *l, size_t size); /* NULL: no room, and the host knows */
    void (*push)(gd_link *l, size_t size);
    /* no lock */
    void (*flush)(gd_link *l);
    bool (*idle)(gd_link *l); /* [mu] everything pushed has left this process */
    void (*close)(gd_link *l);
} gd_wire;

/* Cursors of one byte ring. `own` is private and mirrored to the shared word. */
typedef struct {
    uint8_t *base;
    uint64_t size;
    _Atomic uint64_t *head, *tail;
    uint64_t own;  /* down: bytes read; up: bytes written */
    uint64_t seen; /* the host's cursor as last read and checked */
} gd_ring;

typedef struct {
    uint8_t *map;
    size_t map_len;
    gd_ring down, up;
    _Atomic uint32_t *reader_asleep, *host_asleep, *watch_parked, *worker_wants, *host_wants;
    _Atomic uint32_t *slots;
    int to_worker, to_host, to_watch, epoll;
    atomic_bool wanted; /* worker_wants was set, so TO_WORKER may have been rung for room */
    uint64_t pad;       /* bytes reserved in front of the frame being pushed [mu] */
} gd_shm;

typedef struct {
    int fd;
    uint8_t *in; /* [claim] */
    size_t in_len, in_off, in_cap;
    uint8_t *out; /* [mu] a ring */
    size_t out_cap, out_head, out_len;
    bool flushing, blocked, eof;
    gd_event kick;
} gd_sock;

struct gd_link {
    const gd_wire *wire;
    gd_shm shm;
    gd_sock sock;
    uint32_t nslots, max_frame;
    int control;
    atomic_bool forked;
    gd_link *next_link; /* all links of the process, for fork */

    pthread_mutex_t mu;
    unsigned todo;            /* [mu] GD_TODO_* */
    int closed;               /* [mu] 0, or what every call returns */
    enum gd_mode mode;        /* [mu] */
    bool claimed;             /* [mu] */
    gd_stream *leader_stream; /* [mu] what the thread that reads waits for; NULL: a request, or
                                 it does not wait */
    pthread_t leader_thread;  /* [mu] valid with leader_stream */
    bool idle_leader;         /* [mu] … by a pool thread that waits for a request */
    bool taking_over;         /* [mu] serve() waits for the claim: who has it gives it up */
    bool draining;            /* [mu] */
    int64_t grace_end;        /* of DRAIN, in gd_now_ms */
    uint32_t pong;
    char *hello; /* [mu] */
    size_t hello_len;
    bool hello_done;
    gd_event main_bell; /* the main thread in gd_link_wait_drained */

    gd_stream **table; /* [mu] by slot */
    uint32_t open;     /* [mu] streams in the table */
    gd_stream *spare;
    uint32_t nspare;
    gd_stream zero; /* stream 0 */
    gd_stream *ready_head, *ready_tail;
    struct gd_calls *calls;              /* call.c's; NULL: nobody has called */
    struct gd_globals *globals;          /* global.c's; NULL: no update has come */
    atomic_uint global_waiting;          /* updates in it */
    struct gd_restores *restores;        /* restore.c's; NULL: no store has come */
    gd_entry *commit_head, *commit_tail; /* [mu] state to be sent, before all else */
    uint64_t sealed, written;            /* [mu] entries so far */
    gd_fd *fds_head, *fds_tail;
    bool fds_sending, fds_blocked;

    uint8_t *kinds;
    size_t napps;
    uint32_t request_credit, response_credit, file_credit;

    /* [mu] pool threads */
    gd_stream *queue_head, *queue_tail;
    gd_waiters idle, needy;
    uint32_t running; /* threads inside the application, as far as the link knows */
    uint32_t waking;  /* signalled idle threads that have not taken anything yet */
    uint64_t taken, finished;
    bool stalled;
    uint64_t stall_mark;
    int64_t service_us; /* how long the application keeps a thread: moving average */

    /* [mu] event loop */
    gd_stream *loop_head, *loop_tail, *event_head, *event_tail;
    gd_event loop_bell;
    bool loop_rung, loop_reading;
    pthread_t loop_thread; /* who drains, once loop_known */
    bool loop_known;
    bool loop_leads; /* it waits for something inside a callback, and reads for all */
    bool loop_armed; /* the loop's thread only */
    uint64_t loop_drains;

    /* [mu] interrupts that nobody who holds the GIL has taken yet, by stream */
    uint32_t *interrupts, ninterrupts;
    int64_t interrupt_due; /* by when one should, in gd_now_ms */
    bool interrupt_told;   /* … and that it did not was told */
    int dump_signal;       /* makes faulthandler print all stacks; 0: none does */
    gd_event interrupt_bell;

    /* stats.c */
    _Atomic int64_t python_us; /* when a thread of ours last had the GIL; 0: not yet */
    _Atomic uint64_t gil_waits, gil_wait_us;
    int64_t beat_us;     /* [mu] a PING was sent then and the loop has not come since; else 0 */
    int64_t loop_lag_us; /* [mu] how late it came last */

    /* watch thread */
    bool watching, stop; /* [mu] */
    bool watch_sleeps;   /* [mu] as the reader, on the wire */
    pthread_t watch;
    gd_event watch_bell; /* socket transport; shared memory uses TO_WATCH */
    _Atomic uint32_t own_parked;
    _Atomic uint32_t *parked;
    void (*gone)(gd_link *l); /* what to do when the host is gone */
};

extern const gd_wire gd_wire_shm, gd_wire_sock;
int gd_shm_open(gd_link *l, const int fds[4], const char **why);
bool gd_shm_armed(gd_link *l); /* nobody has rung TO_WORKER since it was armed */
int gd_sock_open(gd_link *l, int fd, const char **why);

/* ---- control.c -------------------------------------------------------------- */

/* [mu] Queues fd, which the link owns from here; gd_unlock sends it. */
void gd_control_pass(gd_link *l, gd_fd *f);
void gd_control_flush(gd_link *l); /* no lock held; never blocks */
/* The socket is readable: EOF, or bytes that nobody should send. */
bool gd_control_gone(gd_link *l);

/* ---- link.c ------------------------------------------------------------------ */

void gd_lock(gd_link *l);
void gd_unlock(gd_link *l);               /* … and does what is noted in todo */
void gd_settle(gd_link *l);               /* [mu] the same, coming back with the lock */
void gd_fail(gd_link *l, int why);        /* no lock held */
void gd_fail_locked(gd_link *l, int why); /* [mu] */
void gd_host_gone(gd_link *l);            /* no lock held */
void gd_check_drained(gd_link *l);        /* [mu] */

/* ---- stream.c ---------------------------------------------------------------- */

gd_stream *gd_stream_new(gd_link *l, uint32_t id); /* [mu] */
void gd_stream_gone(gd_stream *s);                 /* [mu] its last frame left */
void gd_stream_recycle(gd_stream *s);              /* [mu] when nobody needs it any more */
void gd_stream_free(gd_stream *s);
void gd_stream_news(gd_stream *s, uint32_t events); /* [mu] for waiters and loop */
/* Files the peeked frame. [claim], no lock held. */
int gd_file_frame(gd_link *l, const gd_frame_head *h);
int gd_stream_start(gd_stream *s); /* [mu] queued → started */

/* ---- read.c -------------------------------------------------------------------- */

/* Files what one look at the wire finds; the number of frames, or < 0. [claim] */
int gd_drain(gd_link *l);
void gd_wait_begin(gd_waiter *w, gd_stream *s);
/* [mu] Reads, or sleeps until something was filed for w. Returns with mu held. */
void gd_wait_step(gd_link *l, gd_waiter *w, int64_t timeout_ms);
void gd_wait_end(gd_link *l, gd_waiter *w);     /* [mu] gives the claim on */
void gd_signal(gd_waiters *list, gd_waiter *w); /* [mu] */
void gd_signal_all(gd_link *l);                 /* [mu] */
bool gd_signal_reader(gd_link *l);              /* [mu] the claim is free: who waits may take it */
void gd_wake_idle(gd_link *l);                  /* [mu] there is one */
void gd_nudge(gd_link *l);                      /* [mu] somebody must look at the request queue */

/* ---- send.c --------------------------------------------------------------------- */

void gd_due(gd_stream *s, uint8_t what); /* [mu] */
void gd_ready(gd_stream *s);             /* [mu] */
void gd_pump(gd_link *l);                /* [mu] sends what has room and credit */
ssize_t gd_post(gd_stream *s, gd_out *m, int wait);
void gd_drop_out(gd_stream *s); /* [mu] */
/* [mu] Queues a COMMIT that goes with an entry of the commit queue. */
ssize_t gd_out_queue(gd_stream *s, gd_out *m, gd_entry *e);
/* [mu] Sends it, its state being on the wire. False: there is no room. */
bool gd_out_commit(gd_stream *s, gd_out *m);
bool gd_stream_unended(gd_stream *s); /* cancelled, and its END was dropped or never given */

/* ---- commit.c ------------------------------------------------------------------- */

/* Seals a COMMIT with its state; < 0: the answer is refused, and the state goes alone. */
ssize_t gd_seal_out(gd_stream *s, gd_out *m, const void *state, size_t n);
bool gd_entry_detach(gd_entry *e); /* [mu] */
bool gd_commits_write(gd_link *l); /* [mu] false: there is no room for all */
void gd_commits_free(gd_link *l);

/* ---- restore.c ------------------------------------------------------------------- */

int gd_restore_file(gd_link *l, const gd_frame_head *h); /* [claim], no lock held */
void gd_restores_wake(gd_link *l);                       /* [mu] the link has closed */
void gd_restores_free(gd_link *l);

/* ---- message.c ------------------------------------------------------------------ */

/* [claim], no lock held */
int gd_message_file(gd_link *l, gd_stream *(*find)(gd_link *, uint32_t), const gd_frame_head *h);
int gd_disconnect_file(gd_link *l, gd_stream *(*find)(gd_link *, uint32_t), const gd_frame_head *h);
void gd_give_back(gd_stream *s, size_t n); /* [mu] request.c */

/* ---- interrupt.c ------------------------------------------------------------------ */

void gd_interrupt_file(gd_stream *s); /* [mu] */
void gd_interrupt_look(gd_link *l);   /* no lock held; the watch thread's */

/* ---- stats.c -------------------------------------------------------------------- */

void gd_stats_ping(gd_link *l, int64_t sent_us);               /* [mu] PING came */
void gd_stats_loop(gd_link *l);                                /* [mu] the loop came */
size_t gd_stats_text(const gd_link *l, char *to, size_t room); /* [mu] */

/* ---- call.c ------------------------------------------------------------------------ */

int gd_reply_file(gd_link *l, const gd_frame_head *h); /* [claim], no lock held */
void gd_calls_wake(gd_link *l);                        /* [mu] the link has closed */
void gd_calls_free(gd_link *l);

/* ---- global.c ---------------------------------------------------------------------- */

int gd_global_file(gd_link *l, const gd_frame_head *h); /* [claim], no lock held */
void gd_globals_wake(gd_link *l);                       /* [mu] the link has closed */
void gd_globals_free(gd_link *l);

/* ---- loop.c ---------------------------------------------------------------------- */

void gd_loop_ring(gd_link *l); /* [mu] another thread filed something for the loop */

/* ---- watch.c ---------------------------------------------------------------------- */

int gd_watch_start(gd_link *l);
void gd_watch_stop(gd_link *l);
/* [mu] Asks the watch thread to look, if it is parked. */
void gd_watch_unpark(gd_link *l);
void gd_watch_ring(gd_link *l); /* gd_unlock's half of it */

#endif
