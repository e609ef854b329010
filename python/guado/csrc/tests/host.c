/* See host.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "host.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLOTS = 1024, DATA_AT = 4096 };

static uint8_t *received; /* payload of the last frame */

#define WORD32(h, at) ((_Atomic uint32_t *)((h)->map + (at)))
#define WORD64(h, at) ((_Atomic uint64_t *)((h)->map + (at)))

static void ring_bell(int fd) {
    uint64_t one = 1;
    ssize_t n = write(fd, &one, 8);
    assert(n == 8 || errno == EAGAIN);
}

static bool swap(_Atomic uint32_t *word, uint32_t from, uint32_t to) {
    return atomic_compare_exchange_strong(word, &from, to);
}

void host_open(host *h, bool shm, uint64_t ring) {
    int control[2];
    memset(h, 0, sizeof *h);
    h->shm = shm;
    assert(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control) == 0);
    h->control = control[0];
    if (!shm) {
        int pair[2];
        assert(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        h->fd = pair[0];
        h->max_frame = GD_SOCKET_RING / 8;
        h->in = malloc(1 << 20);
        h->out = malloc(h->out_cap = 1 << 20);
        snprintf(h->spec, sizeof h->spec, "socket:%d,%d", pair[1], control[1]);
        return;
    }
    size_t size = DATA_AT + 4 * SLOTS + 2 * ring;
    int fd = memfd_create("stress", 0);
    assert(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    h->map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert(h->map != MAP_FAILED);
    h->ring = ring;
    h->slots = SLOTS;
    h->max_frame = (uint32_t)(ring / 8);
    gd_put64(h->map, 0x4b4e4c4f44415547);
    gd_put32(gd_put32(gd_put32(h->map + 8, 1), (uint32_t)ring), SLOTS);
    h->to_worker = eventfd(0, EFD_NONBLOCK);
    h->to_host = eventfd(0, EFD_NONBLOCK);
    h->to_watch = eventfd(0, EFD_NONBLOCK);
    snprintf(h->spec, sizeof h->spec, "shm:%d,%d,%d,%d,%d", fd, dup(h->to_worker), dup(h->to_host),
             dup(h->to_watch), control[1]);
}

void host_close(host *h) {
    close(h->control);
    free(received);
    received = NULL;
    if (h->shm) {
        munmap(h->map, DATA_AT + 4 * SLOTS + 2 * h->ring);
        close(h->to_worker);
        close(h->to_host);
        close(h->to_watch);
        return;
    }
    close(h->fd);
    free(h->in);
    free(h->out);
}

static _Atomic uint32_t *slot_word(host *h, uint32_t stream) {
    return WORD32(h, DATA_AT + 4 * (stream & 0xffff));
}

void host_queue(host *h, uint32_t stream) {
    if (h->shm)
        atomic_store(slot_word(h, stream), (stream & 0xffff0000u) | GD_SLOT_QUEUED);
}

bool host_revoke(host *h, uint32_t stream) {
    uint32_t high = stream & 0xffff0000u;
    return h->shm && swap(slot_word(h, stream), high | GD_SLOT_QUEUED, high | GD_SLOT_REVOKED);
}

uint32_t host_state(host *h, uint32_t stream) {
    return atomic_load(slot_word(h, stream)) & 0xffff;
}

static void flush_socket(host *h) {
    while (h->out_len) {
        ssize_t n = send(h->fd, h->out, h->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0)
            return;
        memmove(h->out, h->out + n, h->out_len - (size_t)n);
        h->out_len -= (size_t)n;
    }
}

static uint8_t *place(host *h, size_t size) {
    if (!h->shm) {
        flush_socket(h);
        return h->out_cap - h->out_len < size ? NULL : h->out + h->out_len;
    }
    uint64_t at = h->head & (h->ring - 1), left = h->ring - at, pad = size > left ? left : 0;
    for (int look = 0; h->ring - (h->head - atomic_load(WORD64(h, 128))) < size + pad; look++) {
        if (look)
            return NULL;
        atomic_store(WORD32(h, 576), 1);
    }
    uint8_t *ring = h->map + DATA_AT + 4 * SLOTS;
    if (pad >= GD_HEADER)
        gd_frame_encode_head(ring + at, (uint32_t)pad, GD_K_PAD, 0, 0, 0);
    h->head += pad;
    return ring + (pad ? 0 : at);
}

bool host_send(host *h, uint8_t kind, uint8_t flags, uint32_t stream, uint32_t arg,
               const void *payload, size_t n) {
    size_t size = gd_padded(GD_HEADER + n);
    assert(GD_HEADER + n <= h->max_frame);
    uint8_t *p = place(h, size);
    if (!p)
        return false;
    memset(p + size - 8, 0, 8);
    gd_frame_encode_head(p, (uint32_t)(GD_HEADER + n), kind, flags, stream, arg);
    if (n)
        memcpy(p + GD_HEADER, payload, n);
    if (!h->shm) {
        h->out_len += size;
        flush_socket(h);
        return true;
    }
    h->head += size;
    atomic_store(WORD64(h, 64), h->head);
    if (swap(WORD32(h, 320), 1, 0))
        ring_bell(h->to_worker);
    else if (swap(WORD32(h, 448), 1, 0))
        ring_bell(h->to_watch);
    return true;
}

static bool keep(host_frame *f, const uint8_t *at) {
    received = realloc(received, f->h.size);
    f->n = f->h.size - GD_HEADER;
    memcpy(received, at + GD_HEADER, f->n);
    f->payload = received;
    return true;
}

static bool receive_socket(host *h, host_frame *f) {
    for (int look = 0;; look++) {
        const uint8_t *at = h->in + h->in_at;
        size_t n = h->in_len - h->in_at;
        if (gd_frame_decode_head(at, n, h->max_frame, &f->h) == GD_OK &&
            gd_padded(f->h.size) <= n) {
            h->in_at += gd_padded(f->h.size);
            return keep(f, at);
        }
        if (look)
            return false;
        memmove(h->in, at, n);
        h->in_at = 0;
        ssize_t got = recv(h->fd, h->in + n, (1 << 20) - n, MSG_DONTWAIT);
        h->in_len = n + (got > 0 ? (size_t)got : 0);
    }
}

static void taken(host *h, uint64_t n) {
    h->tail += n;
    atomic_store(WORD64(h, 256), h->tail);
    if (swap(WORD32(h, 512), 1, 0))
        ring_bell(h->to_worker);
}

bool host_receive(host *h, host_frame *f) {
    if (!h->shm)
        return receive_socket(h, f);
    uint8_t *ring = h->map + DATA_AT + 4 * SLOTS + h->ring;
    while (atomic_load(WORD64(h, 192)) != h->tail) {
        uint64_t at = h->tail & (h->ring - 1), left = h->ring - at;
        if (left < GD_HEADER) {
            taken(h, left);
            continue;
        }
        assert(gd_frame_decode_head(ring + at, left, h->max_frame, &f->h) == GD_OK);
        if (f->h.kind == GD_K_PAD) {
            assert(f->h.size == left);
            taken(h, left);
            continue;
        }
        assert(gd_padded(f->h.size) <= left);
        keep(f, ring + at);
        taken(h, gd_padded(f->h.size));
        return true;
    }
    return false;
}

void host_wait(host *h, int timeout_ms) {
    struct pollfd p = {h->shm ? h->to_host : h->fd, POLLIN, 0};
    uint64_t count;
    if (!h->shm) {
        if (h->out_len)
            p.events |= POLLOUT;
        poll(&p, 1, timeout_ms);
        flush_socket(h);
        return;
    }
    atomic_store(WORD32(h, 384), 1);
    if (atomic_load(WORD64(h, 192)) == h->tail && poll(&p, 1, timeout_ms) > 0)
        (void)!read(h->to_host, &count, 8);
    atomic_store(WORD32(h, 384), 0);
}

static uint8_t *put_text(uint8_t *p, const char *s) {
    size_t n = strlen(s);
    p = gd_put32(p, (uint32_t)n);
    memcpy(p, s, n);
    return p + n;
}

uint8_t *host_request(const char *path, uint16_t app, uint16_t flags, int64_t length,
                      const void *body, size_t n, size_t *size) {
    uint8_t *start = malloc(512 + 3 * strlen(path) + n), *p = start;
    *p++ = 11;
    *p++ = 0;
    p = gd_put16(gd_put16(gd_put16(p, flags), app), 1);
    p = gd_put64(p, (uint64_t)length);
    p = gd_put16(gd_put16(gd_put16(gd_put16(p, 0), 0), 80), 1);
    const char *strings[] = {"id", "POST", "http", path,        path, "",
                             path, "",     "host", "127.0.0.1", ""};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        p = put_text(p, strings[i]);
    p = gd_fields_encode(p, &(gd_field){{"HTTP_X", 6}, {"value", 5}}, 1);
    p = gd_put32(p, (uint32_t)n);
    if (n)
        memcpy(p, body, n);
    *size = (size_t)(p + n - start);
    return start;
}
