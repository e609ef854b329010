/* The application of stress.c on an event loop: one thread, poll, nothing that blocks.
 * Now and then it stays away from the loop, so that the watch thread takes over, or
 * reads a body synchronously, so that it becomes the reader itself.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "loop_app.h"
#include "state_app.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    gd_stream *s;
    bool echo, headed, full;
    uint64_t got;
} work;

static unsigned dice = 7;

static void finish(work *w) {
    gd_stream_release(w->s);
    free(w);
}

/* Moves one exchange on; frees it at its end. */
static void go_on(work *w) {
    uint8_t buf[5000];
    ssize_t n = 0;
    gd_head head = {.status = 200, .length = -1};
    if (w->echo && !w->headed && gd_commit(w->s, &head, NULL, 0, 0, 0) < 0) {
        finish(w);
        return;
    }
    w->headed = true;
    bool wait = rand_r(&dice) % 20 == 0;
    while (!w->full && (n = (wait ? gd_read : gd_read_now)(w->s, buf, sizeof buf)) > 0) {
        w->got += (uint64_t)n;
        if (w->echo) {
            ssize_t queued = gd_body(w->s, buf, (size_t)n, 0, 0);
            w->full = queued > 0;
            n = queued < 0 ? queued : n;
            if (queued < 0)
                break;
        }
    }
    if (w->full || n == GD_AGAIN)
        return;
    if (n == 0 && w->echo)
        gd_body(w->s, NULL, 0, GD_END, 0);
    else if (n == 0)
        stress_reply(w->s, 10, 0);
    finish(w);
}

static void begin(gd_stream *s) {
    const gd_request *r = gd_stream_request(s);
    if (gd_start(s) != GD_OK) {
        gd_stream_release(s);
        return;
    }
    char path[64] = {0};
    memcpy(path, r->path.at, r->path.len < 63 ? r->path.len : 63);
    if (path[1] == 'e' || path[1] == 's') {
        work *w = calloc(1, sizeof *w);
        *w = (work){.s = s, .echo = path[1] == 'e'};
        gd_stream_set_owner(s, w);
        go_on(w);
        return;
    }
    if (path[1] == 'c')
        state_reply(s, (size_t)atoi(path + 2), 0);
    else if (path[1] == 'a')
        gd_abort(s, 1, "because", 7);
    else
        stress_reply(s, (size_t)atoi(path + 2), 0);
    gd_stream_release(s);
}

void *stress_log(void *arg) {
    gd_link *l = arg;
    char text[3000] = {0};
    uint32_t grace;
    while (!gd_link_draining(l, NULL) && gd_link_log(l, 0, 1, text, sizeof text) == GD_OK)
        poll(NULL, 0, 1);
    return NULL;
}

void *stress_loop(void *arg) {
    gd_link *l = arg;
    gd_stream *s;
    int events;
    uint32_t grace;
    struct pollfd p[] = {{gd_loop_fd(l), POLLIN, 0}, {gd_loop_wake_fd(l), POLLIN, 0}};
    while (gd_loop_drain(l) == GD_OK) {
        while (gd_loop_request(l, &s) == GD_OK)
            begin(s);
        while (gd_loop_event(l, &s, &events) == GD_OK) {
            work *w = gd_stream_owner(s);
            if (events & (GD_EV_DRAINED | GD_EV_CANCEL))
                w->full = false;
            go_on(w);
        }
        if (gd_link_draining(l, NULL) && gd_link_wait_drained(l, 0) == GD_DRAINED)
            break;
        if (rand_r(&dice) % 500 == 0)
            poll(NULL, 0, 3); /* an application that blocks its loop */
        /* What other threads still send ends without a bell for the loop: a worker waits
         * for that in gd_link_wait_drained, in a thread of its own. */
        poll(p, 2, gd_link_draining(l, NULL) ? 10 : -1);
    }
    return NULL;
}
