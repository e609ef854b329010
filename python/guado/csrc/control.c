/* The control socket: passes descriptors to the host (protocol/link.md §6), and
 * tells by its end that the host is gone.
 * Before: send.c pushes a FILE frame; after: the host pairs both by stream and
 * sequence. Not here: opening files, which is the application's thread's business.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

enum { MESSAGE = 16 };
static const uint32_t MAGIC = 0x47444644;

static int pass(int socket, const gd_fd *f) {
    uint8_t data[MESSAGE];
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    memset(&control, 0, sizeof control);
    gd_put32(gd_put32(gd_put32(gd_put32(data, MAGIC), f->stream), f->seq), 0);
    struct iovec v = {data, sizeof data};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = control.space,
                       .msg_controllen = sizeof control.space};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &f->fd, sizeof(int));
    for (;;) {
        ssize_t n = sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
            return GD_OK; /* 16 bytes leave whole: the socket's buffer counts in pages */
        if (errno == EINTR)
            continue;
        /* ETOOMANYREFS: too many descriptors under way, the host will take some. */
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS
                   ? GD_AGAIN
                   : GD_CLOSED;
    }
}

void gd_control_pass(gd_link *l, gd_fd *f) {
    f->next = NULL;
    if (l->fds_tail)
        l->fds_tail->next = f;
    else
        l->fds_head = f;
    l->fds_tail = f;
    l->todo |= GD_TODO_FDS;
}

/* One thread at a time, so that descriptors leave in the order of their frames. A
 * full socket is left to the watch thread, which waits for room. */
void gd_control_flush(gd_link *l) {
    gd_lock(l);
    if (!l->fds_sending) {
        l->fds_sending = true;
        while (l->fds_head && !l->closed) {
            gd_fd *f = l->fds_head;
            gd_unlock(l);
            int rc = pass(l->control, f);
            gd_lock(l);
            l->fds_blocked = rc == GD_AGAIN;
            if (rc == GD_AGAIN) {
                gd_watch_unpark(l);
                break;
            }
            l->fds_head = f->next;
            if (!l->fds_head)
                l->fds_tail = NULL;
            close(f->fd);
            free(f);
            if (rc < 0)
                gd_fail_locked(l, rc);
        }
        l->fds_sending = false;
        gd_check_drained(l);
    }
    gd_unlock(l);
}

bool gd_control_gone(gd_link *l) {
    uint8_t byte;
    ssize_t n = recv(l->control, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    /* The host never writes here: whatever is not "nothing yet" is the end. */
    return !(n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR));
}
