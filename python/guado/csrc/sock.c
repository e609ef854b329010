/* The wire over a Unix stream socket (protocol/link.md §8), for systems without
 * shared memory and on demand. Same frames, same padding.
 * Not here: what the frames mean (stream.c), who may read (read.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: SO_NOSIGPIPE is set instead */
#endif

enum { BUFFER = 256 << 10, OUT = 1 << 20 };

/* One recv a look: a read shorter than asked for has emptied the socket, and the
 * next sleep finds out if not. */
static int look(gd_link *l) {
    gd_sock *k = &l->sock;
    if (k->in_off) {
        memmove(k->in, k->in + k->in_off, k->in_len - k->in_off);
        k->in_len -= k->in_off;
        k->in_off = 0;
    }
    if (k->eof)
        return GD_CLOSED;
    ssize_t n;
    do
        n = recv(k->fd, k->in + k->in_len, k->in_cap - k->in_len, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? GD_OK : GD_CLOSED;
    k->in_len += (size_t)n;
    if (n == 0)
        k->eof = true;
    return GD_OK;
}

static int peek(gd_link *l, gd_frame_head *h) {
    gd_sock *k = &l->sock;
    size_t there = k->in_len - k->in_off;
    int rc = gd_frame_decode_head(k->in + k->in_off, there, l->max_frame, h);
    if (rc == GD_OK && h->kind == GD_K_PAD)
        return GD_CORRUPT;
    if (rc == GD_AGAIN || (rc == GD_OK && there < gd_padded(h->size)))
        return k->eof ? GD_CLOSED : 0;
    return rc == GD_OK ? 1 : rc;
}

static void copy(gd_link *l, size_t off, void *to, size_t n) {
    if (n)
        memcpy(to, l->sock.in + l->sock.in_off + off, n);
}

static void advance(gd_link *l, const gd_frame_head *h) {
    l->sock.in_off += gd_padded(h->size);
}

static void drained(gd_link *l) {
    (void)l;
}

static void sleep_on(gd_link *l, int64_t timeout_ms) {
    struct pollfd p[] = {
        {l->sock.fd, POLLIN, 0}, {l->sock.kick.r, POLLIN, 0}, {l->control, POLLIN, 0}};
    if (gd_poll(p, 3, timeout_ms < 0 ? -1 : timeout_ms * 1000) <= 0)
        return;
    if (p[1].revents)
        gd_event_clear(&l->sock.kick);
    if (p[2].revents && gd_control_gone(l))
        gd_host_gone(l);
}

/* The event loop watches the socket itself, so a wake-up is always armed. */
static bool arm(gd_link *l) {
    (void)l;
    return true;
}

static bool unread(gd_link *l) {
    struct pollfd p = {l->sock.fd, POLLIN, 0};
    return gd_poll(&p, 1, 0) > 0;
}

static void kick(gd_link *l) {
    gd_event_ring(&l->sock.kick);
}

/* The out ring never splits a frame: what does not fit behind goes to the front
 * when the front is free, so that every frame is one memcpy for its maker. */
static uint8_t *reserve(gd_link *l, size_t size) {
    gd_sock *k = &l->sock;
    size_t need = gd_padded(size);
    if (k->out_cap - k->out_len < need)
        return NULL;
    if (k->out_head + k->out_len + need > k->out_cap) {
        if (k->flushing) /* the flusher is reading the buffer without the lock */
            return NULL;
        memmove(k->out, k->out + k->out_head, k->out_len);
        k->out_head = 0;
    }
    return k->out + k->out_head + k->out_len;
}

static void push(gd_link *l, size_t size) {
    gd_sock *k = &l->sock;
    memset(k->out + k->out_head + k->out_len + size, 0, gd_padded(size) - size);
    k->out_len += gd_padded(size);
    l->todo |= GD_TODO_FLUSH;
}

/* One thread at a time writes; what others push meanwhile it takes along. */
static void flush(gd_link *l) {
    gd_sock *k = &l->sock;
    gd_lock(l);
    if (!k->flushing) {
        k->flushing = true;
        while (k->out_len && !l->closed) {
            const uint8_t *at = k->out + k->out_head;
            size_t len = k->out_len;
            gd_unlock(l);
            ssize_t n = send(k->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
            int err = errno;
            gd_lock(l);
            if (n < 0 && err == EINTR)
                continue;
            if (n < 0 && (err == EAGAIN || err == EWOULDBLOCK || err == ENOBUFS)) {
                k->blocked = true;
                gd_watch_unpark(l);
                break;
            }
            if (n < 0) {
                gd_fail_locked(l, GD_CLOSED);
                break;
            }
            k->blocked = false;
            k->out_head += (size_t)n;
            k->out_len -= (size_t)n;
            if (k->out_len == 0)
                k->out_head = 0;
        }
        k->flushing = false;
        gd_pump(l);
        if (k->blocked)
            l->todo &= ~(unsigned)GD_TODO_FLUSH;
        gd_check_drained(l);
    }
    gd_unlock(l);
}

static bool idle(gd_link *l) {
    return l->sock.out_len == 0;
}

static void close_sock(gd_link *l) {
    gd_sock *k = &l->sock;
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
    gd_event_close(&k->kick);
    gd_event_close(&l->watch_bell);
    free(k->in);
    free(k->out);
    k->in = k->out = NULL;
}

const gd_wire gd_wire_sock = {look,   peek, copy,    advance, drained, sleep_on, arm,
                              unread, kick, reserve, push,    flush,   idle,     close_sock};

int gd_sock_open(gd_link *l, int fd, const char **why) {
    gd_sock *k = &l->sock;
    l->wire = &gd_wire_sock;
    k->fd = fd;
    gd_cloexec(fd);
#ifdef SO_NOSIGPIPE
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    l->nslots = GD_SOCKET_SLOTS;
    l->max_frame = GD_SOCKET_RING / 8;
    k->in_cap = BUFFER;
    k->out_cap = OUT;
    k->in = malloc(k->in_cap);
    k->out = malloc(k->out_cap);
    k->kick = l->watch_bell = (gd_event){-1, -1};
    if (!k->in || !k->out || gd_event_open(&k->kick) < 0 || gd_event_open(&l->watch_bell) < 0) {
        *why = "no memory or descriptors for the link";
        return GD_NOMEM;
    }
    l->parked = &l->own_parked;
    return GD_OK;
}
