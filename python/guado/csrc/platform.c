/* What differs between Linux and other systems: bells, clocks, short sleeps.
 * Not here: shared memory, which only Linux has (shm.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/eventfd.h>
#else
#include <sys/select.h>
#endif

#include "internal.h"

void gd_cloexec(int fd) {
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0)
        fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
}

#ifdef __linux__

int gd_event_open(gd_event *e) {
    e->r = e->w = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return e->r < 0 ? GD_NOMEM : GD_OK;
}

/* ppoll, because a tick is shorter than poll's millisecond. */
int gd_poll(struct pollfd *fds, unsigned n, int64_t timeout_us) {
    struct timespec t = {timeout_us / 1000000, timeout_us % 1000000 * 1000};
    return ppoll(fds, n, timeout_us < 0 ? NULL : &t, NULL);
}

#else

static void nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int gd_event_open(gd_event *e) {
    int p[2];
    if (pipe(p) < 0)
        return GD_NOMEM;
    for (int i = 0; i < 2; i++) {
        gd_cloexec(p[i]);
        nonblocking(p[i]);
    }
    e->r = p[0];
    e->w = p[1];
    return GD_OK;
}

/* poll counts milliseconds and macOS has no ppoll: a tick is rounded up. */
int gd_poll(struct pollfd *fds, unsigned n, int64_t timeout_us) {
    return poll(fds, n, timeout_us < 0 ? -1 : (int)((timeout_us + 999) / 1000));
}

#endif

void gd_event_close(gd_event *e) {
    if (e->r >= 0)
        close(e->r);
    if (e->w >= 0 && e->w != e->r)
        close(e->w);
    e->r = e->w = -1;
}

/* A full pipe or counter is a bell that rings already. */
void gd_event_ring(const gd_event *e) {
    uint64_t one = 1;
    while (write(e->w, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

void gd_event_clear(const gd_event *e) {
    uint64_t count[8];
    while (read(e->r, count, sizeof count) > 0 && e->r != e->w)
        ;
}

int64_t gd_now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t gd_now_ms(void) {
    return gd_now_us() / 1000;
}

void gd_mutex_init(pthread_mutex_t *m) {
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
#ifdef __GLIBC__
    /* Held for a few hundred nanoseconds: cheaper to try again than to sleep. */
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(m, &a);
    pthread_mutexattr_destroy(&a);
}

/* Our own threads take no signals: those belong to the interpreter's threads. */
int gd_thread_start(pthread_t *t, void *(*run)(void *), void *arg) {
    sigset_t all, before;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 << 10);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(t, &attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc == 0 ? GD_OK : GD_NOMEM;
}
