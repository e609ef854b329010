/* A host that sends arbitrary frames: the link files them, answers, or calls the host
 * corrupt; it never touches memory that is not its own. The input is what the host
 * writes to the socket, in parts; between two parts the application side takes
 * requests, reads bodies and answers. Run by run_fuzz.sh (libFuzzer).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "../internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HELD = 8 };

static gd_stream *held[HELD];

static void use(gd_stream *s, uint8_t how) {
    uint8_t buf[64];
    int ended;
    gd_field f = {{"a", 1}, {"b", 1}};
    gd_head head = {.status = 200, .length = -1, .nfields = 1, .fields = &f};
    gd_readable(s, &ended);
    gd_read_now(s, buf, sizeof buf);
    if ((how & 9) == 9 && gd_seal_commit(s, &head, "some bytes", 10, GD_END, "state", 5) >= 0)
        gd_push(s);
    else if (how & 1)
        gd_commit(s, &head, "some bytes", 10, how & 2 ? GD_END : 0, 0);
    if (how & 4)
        gd_body(s, "more", 4, how & 8 ? GD_END | GD_BUSY : 0, 0);
    if (how & 16)
        gd_informational(s, &(gd_head){.status = 103, .length = -1}, 0);
    if (how & 32)
        gd_trailers(s, &f, 1, 0, 0);
    if (how & 64)
        gd_done(s);
}

/* What stores the host has sent, and what of the global one. */
static void stores(gd_link *l, uint8_t how) {
    gd_restored r;
    gd_reply u;
    while (how & 64 && gd_restore_take(l, &r) == GD_OK)
        gd_restore_free(&r);
    while (how & 32 && gd_link_update(l, &u) == GD_OK)
        gd_reply_free(&u);
    if ((how & 5) == 4 && gd_seal_alone(l, 0, "state", 5) == GD_OK)
        gd_commits_push(l, false);
}

/* A request is queued that is to be served: taking it does not wait. */
static bool waiting(const gd_link *l) {
    const gd_stream *s = l->closed ? NULL : l->queue_head;
    while (s && (s->revoked || s->interrupted))
        s = s->next;
    return s != NULL;
}

static void application(gd_link *l, uint8_t how) {
    gd_stream *s;
    int events;
    if (l->mode == GD_MODE_LOOP)
        gd_loop_drain(l);
    else if (!l->closed)
        gd_drain(l);
    stores(l, how);
    for (int i = 0; i < HELD; i++) {
        if (held[i] && (how & 128)) {
            gd_stream_release(held[i]);
            held[i] = NULL;
        } else if (held[i]) {
            use(held[i], how);
        } else if (waiting(l)) {
            gd_next_wsgi(l, &held[i]);
        }
    }
    while (gd_loop_request(l, &s) == GD_OK) {
        if (gd_start(s) == GD_OK)
            use(s, how);
        gd_stream_release(s);
    }
    while (gd_loop_event(l, &s, &events) == GD_OK)
        use(s, how);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n) {
    static const uint8_t kinds[3][2] = {{GD_WSGI, GD_WSGI}, {GD_ASGI, GD_ASGI}, {GD_WSGI, GD_ASGI}};
    static char sink[1 << 16];
    int pair[2], control[2];
    char spec[64];
    const char *why;
    gd_link *l;
    if (n < 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control) < 0)
        return 0;
    snprintf(spec, sizeof spec, "socket:%d,%d", pair[1], control[1]);
    if (gd_link_open(spec, &l, &why) != GD_OK)
        return 0;
    l->gone = NULL;
    l->watching = true; /* no thread: an input has one meaning */
    gd_link_serve(l, kinds[at[0] % 3], 2, 256, 64, 2);
    for (at++, n--; n;) {
        size_t part = 1 + at[0] * 4u;
        uint8_t how = n > 1 ? at[1] : 0;
        part = part < n ? part : n;
        if (send(pair[0], at, part, MSG_DONTWAIT) < 0)
            break;
        at += part;
        n -= part;
        application(l, how);
        while (recv(pair[0], sink, sizeof sink, MSG_DONTWAIT) > 0)
            ;
    }
    for (int i = 0; i < HELD; i++)
        if (held[i])
            gd_stream_release(held[i]);
    memset(held, 0, sizeof held);
    l->watching = false;
    close(pair[0]);
    close(control[0]);
    gd_link_close(l);
    return 0;
}
