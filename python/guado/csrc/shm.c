/* The wire over shared memory (protocol/link.md §7): two byte rings in one mapping,
 * and descriptors to sleep on. Linux only; elsewhere gd_shm_open says so.
 * Not here: what the frames mean (stream.c), who may read (read.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#ifdef __linux__

#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { WAKE = 1, CONTROL = 2, DATA_AT = 4096 };

static const uint64_t MAGIC = 0x4b4e4c4f44415547;

static void ring_bell(int fd) {
    gd_event_ring(&(gd_event){-1, fd});
}

/* The host's cursor, read once and checked. */
static bool follow(gd_ring *r, _Atomic uint64_t *word, uint64_t most) {
    uint64_t v = atomic_load_explicit(word, memory_order_acquire);
    if (v % 8 != 0 || v < r->seen || v > most)
        return false;
    r->seen = v;
    return true;
}

static int look(gd_link *l) {
    gd_ring *r = &l->shm.down;
    return follow(r, r->head, r->own + r->size) ? GD_OK : GD_CORRUPT;
}

static int peek(gd_link *l, gd_frame_head *h) {
    gd_ring *r = &l->shm.down;
    for (;;) {
        uint64_t there = r->seen - r->own;
        if (there == 0)
            return 0;
        uint64_t off = r->own & (r->size - 1), left = r->size - off;
        if (left < GD_HEADER) {
            r->own += left;
            continue;
        }
        uint8_t head[GD_HEADER];
        if (there < GD_HEADER)
            return GD_CORRUPT;
        memcpy(head, r->base + off, GD_HEADER);
        if (gd_frame_decode_head(head, GD_HEADER, l->max_frame, h) != GD_OK)
            return GD_CORRUPT;
        if (h->kind != GD_K_PAD)
            return gd_padded(h->size) <= there && gd_padded(h->size) <= left ? 1 : GD_CORRUPT;
        if (h->size != left || left > there)
            return GD_CORRUPT;
        r->own += left;
    }
}

static void copy(gd_link *l, size_t off, void *to, size_t n) {
    gd_ring *r = &l->shm.down;
    if (n)
        memcpy(to, r->base + (r->own & (r->size - 1)) + off, n);
}

static void advance(gd_link *l, const gd_frame_head *h) {
    l->shm.down.own += gd_padded(h->size);
}

static bool swap(_Atomic uint32_t *word, uint32_t from, uint32_t to) {
    return atomic_load_explicit(word, memory_order_relaxed) == from &&
           atomic_compare_exchange_strong(word, &from, to);
}

static void drained(gd_link *l) {
    gd_ring *r = &l->shm.down;
    if (atomic_load_explicit(r->tail, memory_order_relaxed) == r->own)
        return;
    atomic_store_explicit(r->tail, r->own, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (swap(l->shm.host_wants, 1, 0))
        ring_bell(l->shm.to_host);
}

static bool arm(gd_link *l) {
    gd_ring *r = &l->shm.down;
    atomic_store(l->shm.reader_asleep, 1);
    if (atomic_load(r->head) == r->own)
        return true;
    swap(l->shm.reader_asleep, 1, 0);
    return false;
}

bool gd_shm_armed(gd_link *l) {
    return atomic_load(l->shm.reader_asleep) == 1 &&
           !atomic_exchange_explicit(&l->shm.wanted, false, memory_order_relaxed);
}

static void sleep_on(gd_link *l, int64_t timeout_ms) {
    struct epoll_event ev[2];
    if (!arm(l))
        return;
    int n = epoll_wait(l->shm.epoll, ev, 2, timeout_ms < 0 ? -1 : (int)timeout_ms);
    swap(l->shm.reader_asleep, 1, 0);
    for (int i = 0; i < n; i++)
        if (ev[i].data.u32 == CONTROL && gd_control_gone(l))
            gd_host_gone(l);
}

static bool unread(gd_link *l) {
    gd_ring *r = &l->shm.down;
    atomic_thread_fence(memory_order_seq_cst); /* after the look at `parked` or `claimed` */
    return atomic_load_explicit(r->head, memory_order_acquire) !=
           atomic_load_explicit(r->tail, memory_order_relaxed);
}

/* The wake-up descriptor is edge-triggered for sleepers: a ring of ours counts even
 * when it comes before the sleeper sleeps. */
static void kick(gd_link *l) {
    ring_bell(l->shm.to_worker);
}

static bool room(gd_link *l, uint64_t need) {
    gd_ring *r = &l->shm.up;
    if (r->size - (r->own - r->seen) >= need)
        return true;
    if (!follow(r, r->tail, r->own)) {
        gd_fail_locked(l, GD_CORRUPT);
        return false;
    }
    return r->size - (r->own - r->seen) >= need;
}

static uint8_t *reserve(gd_link *l, size_t size) {
    gd_ring *r = &l->shm.up;
    uint64_t off = r->own & (r->size - 1), left = r->size - off;
    uint64_t pad = gd_padded(size) > left ? left : 0;
    uint64_t need = gd_padded(size) + pad;
    if (!room(l, need)) {
        atomic_store(l->shm.worker_wants, 1);
        atomic_store_explicit(&l->shm.wanted, true, memory_order_relaxed);
        if (!room(l, need))
            return NULL;
    }
    if (pad >= GD_HEADER)
        gd_frame_encode_head(r->base + off, (uint32_t)pad, GD_K_PAD, 0, 0, 0);
    l->shm.pad = pad;
    return r->base + (pad ? 0 : off);
}

static void push(gd_link *l, size_t size) {
    gd_ring *r = &l->shm.up;
    uint64_t at = r->own + l->shm.pad;
    for (size_t i = size; i < gd_padded(size); i++)
        r->base[(at & (r->size - 1)) + i] = 0;
    r->own = at + gd_padded(size);
    atomic_store_explicit(r->head, r->own, memory_order_release);
    l->todo |= GD_TODO_FLUSH;
}

static void flush(gd_link *l) {
    atomic_thread_fence(memory_order_seq_cst);
    if (swap(l->shm.host_asleep, 1, 0))
        ring_bell(l->shm.to_host);
}

static bool idle(gd_link *l) {
    (void)l;
    return true;
}

static void close_shm(gd_link *l) {
    gd_shm *m = &l->shm;
    int fds[] = {m->to_worker, m->to_host, m->to_watch, m->epoll};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    m->to_worker = m->to_host = m->to_watch = m->epoll = -1;
    /* In a forked child the mapping does not exist (MADV_DONTFORK). */
    if (m->map && !atomic_load(&l->forked))
        munmap(m->map, m->map_len);
    m->map = NULL;
}

const gd_wire gd_wire_shm = {look,   peek, copy,    advance, drained, sleep_on, arm,
                             unread, kick, reserve, push,    flush,   idle,     close_shm};

static const char *map_memory(gd_link *l, int fd) {
    struct stat st;
    uint32_t head[6];
    if (fstat(fd, &st) < 0 || pread(fd, head, sizeof head, 0) != sizeof head)
        return "the shared memory cannot be read";
    uint64_t magic = (uint64_t)head[1] << 32 | head[0];
    uint64_t ring = head[3], slots = head[4];
    if (magic != MAGIC)
        return "the shared memory is not a link";
    if (head[2] != 1)
        return "the shared memory has another version of the link";
    if (ring < DATA_AT || (ring & (ring - 1)) || slots == 0 || slots > GD_MAX_SLOTS || slots % 2)
        return "the shared memory has an impossible layout";
    uint64_t size = DATA_AT + 4 * slots + 2 * ring;
    if ((uint64_t)st.st_size < size)
        return "the shared memory is too short";
    uint8_t *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return "the shared memory cannot be mapped";
    l->shm.map = at;
    l->shm.map_len = size;
    if (madvise(at, size, MADV_DONTFORK) < 0)
        return "the shared memory cannot be kept from forked children";
    l->nslots = (uint32_t)slots;
    l->max_frame = (uint32_t)(ring / 8);
    l->shm.slots = (_Atomic uint32_t *)(at + DATA_AT);
    l->shm.down.base = at + DATA_AT + 4 * slots;
    l->shm.up.base = l->shm.down.base + ring;
    l->shm.down.size = l->shm.up.size = ring;
    return NULL;
}

static const char *open_epoll(gd_link *l) {
    struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.u32 = WAKE};
    struct epoll_event control = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = CONTROL};
    l->shm.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->shm.epoll < 0 || epoll_ctl(l->shm.epoll, EPOLL_CTL_ADD, l->shm.to_worker, &wake) < 0 ||
        epoll_ctl(l->shm.epoll, EPOLL_CTL_ADD, l->control, &control) < 0)
        return "the link's descriptors cannot be waited for";
    return NULL;
}

int gd_shm_open(gd_link *l, const int fds[4], const char **why) {
    gd_shm *m = &l->shm;
    l->wire = &gd_wire_shm;
    m->to_worker = fds[1];
    m->to_host = fds[2];
    m->to_watch = fds[3];
    m->epoll = -1;
    for (int i = 0; i < 4; i++)
        gd_cloexec(fds[i]);
    *why = map_memory(l, fds[0]);
    close(fds[0]);
    if (!*why)
        *why = open_epoll(l);
    if (*why)
        return GD_CORRUPT;
    m->down.head = (_Atomic uint64_t *)(m->map + 64);
    m->down.tail = (_Atomic uint64_t *)(m->map + 128);
    m->up.head = (_Atomic uint64_t *)(m->map + 192);
    m->up.tail = (_Atomic uint64_t *)(m->map + 256);
    m->reader_asleep = (_Atomic uint32_t *)(m->map + 320);
    m->host_asleep = (_Atomic uint32_t *)(m->map + 384);
    m->watch_parked = (_Atomic uint32_t *)(m->map + 448);
    m->worker_wants = (_Atomic uint32_t *)(m->map + 512);
    m->host_wants = (_Atomic uint32_t *)(m->map + 576);
    l->parked = m->watch_parked;
    l->watch_bell = (gd_event){m->to_watch, m->to_watch};
    return GD_OK;
}

#else

bool gd_shm_armed(gd_link *l) {
    (void)l;
    return false;
}

int gd_shm_open(gd_link *l, const int fds[4], const char **why) {
    (void)l;
    (void)fds;
    *why = "shared memory is for Linux; here the link is a socket";
    return GD_CORRUPT;
}

#endif
