/* Many exchanges at once against pool threads, an event loop, or both; self-checking,
 * from a seed. Usage: stress shm|socket threads|loop|mixed SECONDS [SEED] [RING]
 *
 * The host side opens streams at random: answers that are complete, streamed, echoed,
 * late, never read, cancelled or revoked; every byte of every answer is compared. Run
 * it under ThreadSanitizer and AddressSanitizer (tests/run.sh).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "host.h"
#include "loop_app.h"
#include "state_app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OPEN = 48, THREADS = 6, REQUEST_CREDIT = 8192, RESPONSE_CREDIT = 16384 };

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s (seed %u)\n", __FILE__, __LINE__, #x, seed);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static unsigned seed, napps = 1;

/* ---- the application: pool threads --------------------------------------------- */

uint8_t stress_byte(uint64_t i) {
    return (uint8_t)(i * 31 + (i >> 8));
}

static void echo(gd_stream *s) {
    uint8_t buf[5000];
    gd_head head = {.status = 200, .length = -1};
    if (gd_commit(s, &head, NULL, 0, 0, 1) < 0)
        return;
    ssize_t n;
    while ((n = gd_read(s, buf, sizeof buf)) > 0)
        if (gd_body(s, buf, (size_t)n, 0, 1) < 0)
            return;
    if (n == 0)
        gd_body(s, NULL, 0, GD_END, 1);
}

void stress_reply(gd_stream *s, size_t n, int wait) {
    uint8_t *body = malloc(n + 1);
    gd_field f = {{"Content-Type", 12}, {"text/plain", 10}};
    gd_head head = {.status = 200, .length = (int64_t)n, .nfields = 1, .fields = &f};
    for (size_t i = 0; i < n; i++)
        body[i] = stress_byte(i);
    ssize_t rc = gd_commit(s, &head, body, n, wait ? GD_END : GD_END | GD_BUSY, wait);
    free(body);
    if (!wait && rc >= 0)
        gd_done(s);
}

static void swallow(gd_stream *s) {
    uint8_t buf[3000];
    ssize_t n;
    uint64_t at = 0;
    while ((n = gd_read(s, buf, sizeof buf)) > 0)
        for (ssize_t i = 0; i < n; i++)
            CHECK(buf[i] == stress_byte(at++));
    if (n == 0)
        stress_reply(s, 10, 1);
}

static unsigned long interrupted;

static void *pool_thread(void *arg) {
    gd_link *l = arg;
    gd_stream *s;
    int rc;
    for (;;) {
        rc = gd_next_wsgi(l, &s);
        if (rc != GD_OK)
            break;
        const gd_request *r = gd_stream_request(s);
        char path[64] = {0};
        CHECK(r->path.len < sizeof path);
        memcpy(path, r->path.at, r->path.len);
        if (path[1] == 'e')
            echo(s);
        else if (path[1] == 's')
            swallow(s);
        else if (path[1] == 'r')
            stress_reply(s, (size_t)atoi(path + 2), 1);
        else if (path[1] == 'q')
            stress_reply(s, (size_t)atoi(path + 2), 0);
        else if (path[1] == 'c')
            state_reply(s, (size_t)atoi(path + 2), atoi(path + 2) % 2);
        else if (path[1] == 'a')
            gd_abort(s, 1, "because", 7);
        gd_stream_release(s);
    }
    CHECK(rc == GD_DRAINED);
    return NULL;
}

/* As worker/interrupt.py. */
static void *interrupter(void *arg) {
    gd_link *l = arg;
    uint32_t stream;
    int rc;
    while ((rc = gd_interrupt_wait(l, 50)) == GD_OK || rc == GD_TIMEOUT) {
        while (gd_interrupt_take(l, &stream)) {
            interrupted++;
            gd_under_way(l, stream);
        }
        if (gd_link_draining(l, NULL))
            break;
    }
    return NULL;
}

/* ---- the host ---------------------------------------------------------------------- */

typedef struct {
    uint32_t stream; /* 0: free */
    char path[32];
    uint64_t body, sent, body_credit; /* of the request */
    uint64_t want, got, credit;       /* of the answer; want -1: echo */
    bool cancelled, may_abort;
    uint16_t generation;
} exchange;

static exchange all[OPEN];
static unsigned long served, revoked, cancelled, frames;

static unsigned pick(unsigned n) {
    return (unsigned)rand_r(&seed) % n;
}

static bool begin(host *h, exchange *x) {
    uint8_t body[1024];
    size_t n, inline_body = 0;
    if (!x->stream) {
        *x = (exchange){
            .generation = x->generation, .body_credit = REQUEST_CREDIT, .credit = RESPONSE_CREDIT};
        switch (pick(5)) {
        case 0:
            snprintf(x->path, sizeof x->path, "/e");
            x->body = x->want = pick(60000);
            break;
        case 1:
            snprintf(x->path, sizeof x->path, "/s");
            x->body = pick(30000);
            x->want = 10;
            break;
        case 2:
            snprintf(x->path, sizeof x->path, "/a");
            x->may_abort = true;
            break;
        default:
            x->want = pick(2) ? pick(200) : pick(70000);
            snprintf(x->path, sizeof x->path, "/%c%d", "rqcc"[pick(4)], (int)x->want);
        }
    }
    if (x->body)
        inline_body = x->body < sizeof body ? x->body : sizeof body / 2;
    for (size_t i = 0; i < inline_body; i++)
        body[i] = stress_byte(i);
    uint16_t generation = (uint16_t)(x->generation + 1);
    generation = generation ? generation : 1;
    uint32_t stream = (uint32_t)generation << 16 | (uint32_t)(x - all);
    uint8_t *payload =
        host_request(x->path, (uint16_t)pick(napps), 0, (int64_t)x->body, body, inline_body, &n);
    host_queue(h, stream);
    bool ok =
        host_send(h, GD_K_REQUEST, inline_body == x->body ? GD_END : 0, stream, 0, payload, n);
    free(payload);
    if (!ok)
        return false;
    x->generation = generation;
    x->stream = stream;
    x->sent = inline_body;
    return true;
}

static bool send_body(host *h, exchange *x) {
    uint8_t buf[4000];
    uint64_t left = x->body - x->sent, n = 1 + pick(sizeof buf - 1);
    n = n < left ? n : left;
    n = n < x->body_credit ? n : x->body_credit;
    n = n < h->max_frame - GD_HEADER ? n : h->max_frame - GD_HEADER;
    if (!n)
        return false;
    for (uint64_t i = 0; i < n; i++)
        buf[i] = stress_byte(x->sent + i);
    if (!host_send(h, GD_K_BODY, n == left ? GD_END : 0, x->stream, 0, buf, n))
        return false;
    x->sent += n;
    x->body_credit -= n;
    return true;
}

static void body_came(exchange *x, const uint8_t *p, size_t n) {
    CHECK(n <= x->credit);
    x->credit -= n;
    for (size_t i = 0; i < n; i++)
        CHECK(p[i] == stress_byte(x->got + i));
    x->got += n;
}

static void frame_came(host_frame *f) {
    frames++;
    if (f->h.kind == GD_K_STATE) {
        CHECK(state_came(f));
        return;
    }
    if (f->h.stream == 0) {
        CHECK(f->h.kind == GD_K_PONG || f->h.kind == GD_K_STATS || f->h.kind == GD_K_LOG ||
              f->h.kind == GD_K_READY);
        return;
    }
    exchange *x = &all[f->h.stream & 0xffff];
    CHECK((f->h.stream & 0xffff) < OPEN && x->stream == f->h.stream);
    switch (f->h.kind) {
    case GD_K_COMMIT: {
        CHECK(state_commit_came(x->stream, x->path[1] == 'c'));
        size_t at = 16 + gd_get32(f->payload + 12);
        for (unsigned i = gd_get16(f->payload + 2); i; i--)
            at += 8 + gd_get16(f->payload + at) + gd_get32(f->payload + at + 4);
        CHECK(at + 4 + gd_get32(f->payload + at) == f->n);
        body_came(x, f->payload + at + 4, gd_get32(f->payload + at));
        break;
    }
    case GD_K_RESPONSE_BODY:
        body_came(x, f->payload, f->n);
        break;
    case GD_K_CREDIT_UP:
        x->body_credit += f->h.arg;
        CHECK(x->body_credit <= REQUEST_CREDIT);
        break;
    case GD_K_STARTED:
        break;
    case GD_K_ABORT:
        CHECK(x->may_abort || x->cancelled);
        x->stream = 0;
        cancelled += x->cancelled;
        return;
    case GD_K_DONE:
        break;
    default:
        CHECK(!"a kind that the worker never sends here");
    }
    bool end = f->h.flags & GD_END;
    if (end)
        CHECK(x->got == x->want);
    if ((end && !(f->h.flags & GD_BUSY)) || f->h.kind == GD_K_DONE) {
        x->stream = 0;
        served++;
    }
}

static void act(host *h, exchange *x, bool open) {
    if (!x->stream) {
        if (open)
            begin(h, x);
        return;
    }
    if (pick(400) == 0 && host_revoke(h, x->stream)) {
        x->stream = 0; /* the slot's next stream may follow at once */
        revoked++;
        return;
    }
    if (!x->cancelled && pick(600) == 0)
        x->cancelled = pick(2) ? host_send(h, GD_K_CANCEL, 0, x->stream, 1 + 2 * pick(2), NULL, 0)
                               : host_send(h, GD_K_INTERRUPT, 0, x->stream, 3, NULL, 0);
    if (x->body > x->sent && !x->cancelled)
        send_body(h, x);
    uint64_t back = RESPONSE_CREDIT - x->credit;
    if (back && (back > RESPONSE_CREDIT / 2 || pick(4) == 0) &&
        host_send(h, GD_K_CREDIT_DOWN, 0, x->stream, (uint32_t)back, NULL, 0))
        x->credit += back;
}

static bool any_open(void) {
    for (int i = 0; i < OPEN; i++)
        if (all[i].stream)
            return true;
    return false;
}

static void drive(host *h, int seconds) {
    int64_t end = gd_now_ms() + seconds * 1000, moved = gd_now_ms();
    for (unsigned round = 0;; round++) {
        host_frame f;
        bool open = gd_now_ms() < end;
        if (!open && !any_open())
            return;
        unsigned before = (unsigned)frames;
        /* Now and then little is read, so that the ring is full. */
        for (unsigned most = pick(3) ? 200 : pick(8); most && host_receive(h, &f); most--)
            frame_came(&f);
        state_send(h, &seed);
        for (int i = 0; i < OPEN; i++)
            act(h, &all[i], open);
        if (round % 64 == 0)
            host_send(h, GD_K_PING, 0, 0, round, NULL, 0);
        if ((unsigned)frames != before)
            moved = gd_now_ms();
        CHECK(gd_now_ms() - moved < 10000);
        if ((unsigned)frames == before)
            host_wait(h, 1);
    }
}

/* All states have come, and the worker has all that the host has sent. */
static void settle(host *h, gd_link *l) {
    int64_t end = gd_now_ms() + 10000;
    host_frame f;
    state_stop();
    while (!state_through(h)) {
        while (host_receive(h, &f))
            frame_came(&f);
        gd_restore_poke(l);
        host_wait(h, 1);
        CHECK(gd_now_ms() < end);
    }
    state_end(l);
}

static uint8_t kinds[2] = {GD_WSGI, GD_ASGI};

static gd_link *boot(host *h) {
    gd_link *l;
    const char *why;
    char *json;
    size_t n;
    host_send(h, GD_K_HELLO, 0, 0, 0, "{}", 2);
    if (gd_link_open(h->spec, &l, &why) != GD_OK) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    CHECK(gd_link_hello(l, &json, &n, 1000) == GD_OK && n == 2);
    gd_link_free_json(json);
    CHECK(gd_link_serve(l, kinds, napps, REQUEST_CREDIT, RESPONSE_CREDIT, 4) == GD_OK);
    CHECK(gd_link_announce(l, GD_K_READY, "{}", 2) == GD_OK);
    return l;
}

int main(int argc, char **argv) {
    host h;
    pthread_t t[THREADS + 4], taker;
    int started = 0;
    if (argc < 4)
        return 2;
    seed = argc > 4 ? (unsigned)atoi(argv[4]) : (unsigned)getpid();
    unsigned first_seed = seed;
    bool loop = strcmp(argv[2], "threads") != 0, threads = strcmp(argv[2], "loop") != 0;
    if (!threads)
        kinds[0] = GD_ASGI;
    napps = loop && threads ? 2 : 1;
    host_open(&h, !strcmp(argv[1], "shm"), argc > 5 ? (uint64_t)atol(argv[5]) : 1 << 16);
    gd_link *l = boot(&h);
    if (loop)
        pthread_create(&t[started++], NULL, stress_loop, l);
    pthread_create(&t[started++], NULL, stress_log, l);
    pthread_create(&t[started++], NULL, interrupter, l);
    pthread_create(&t[started++], NULL, state_loose, l);
    pthread_create(&taker, NULL, state_taker, l);
    for (int i = 0; threads && i < THREADS; i++)
        pthread_create(&t[started++], NULL, pool_thread, l);
    drive(&h, atoi(argv[3]));
    settle(&h, l);
    pthread_join(taker, NULL);
    CHECK(host_send(&h, GD_K_DRAIN, 0, 0, 1000, NULL, 0));
    while (started)
        pthread_join(t[--started], NULL);
    CHECK(gd_link_wait_drained(l, 1000) == GD_DRAINED);
    gd_link_close(l);
    host_close(&h);
    printf("%s %s: %lu served, %lu revoked, %lu cancelled, %lu interrupted, %lu states, "
           "%lu frames (seed %u)\n",
           argv[1], argv[2], served, revoked, cancelled, interrupted, state_count(), frames,
           first_seed);
    return 0;
}
