/* The host's end of the link, small, for C tests of the worker's end. It shares the
 * frame encoding with the code under test (the Python and Go tests do not) and nothing
 * of cursors, sleeping, credit.
 */
#ifndef GUADO_TEST_HOST_H
#define GUADO_TEST_HOST_H

#include "../internal.h"

typedef struct {
    bool shm;
    char spec[128];
    int control;
    uint32_t max_frame;
    /* shared memory */
    uint8_t *map;
    uint64_t ring, slots, head, tail;
    int to_worker, to_host, to_watch;
    /* socket */
    int fd;
    uint8_t *in, *out;
    size_t in_at, in_len, out_len, out_cap;
} host;

typedef struct {
    gd_frame_head h;
    uint8_t *payload; /* valid until the next host_receive */
    size_t n;
} host_frame;

void host_open(host *h, bool shm, uint64_t ring);
void host_close(host *h);
/* Marks the slot's word as queued. */
void host_queue(host *h, uint32_t stream);
/* True: taken back before the worker started it. */
bool host_revoke(host *h, uint32_t stream);
uint32_t host_state(host *h, uint32_t stream);
/* False: no room now. */
bool host_send(host *h, uint8_t kind, uint8_t flags, uint32_t stream, uint32_t arg,
               const void *payload, size_t n);
/* False: nothing there. Frees what the frame before took. */
bool host_receive(host *h, host_frame *f);
/* Sleeps until the worker has something, room came, or the time is over. */
void host_wait(host *h, int timeout_ms);
/* Payload of a REQUEST; free it. */
uint8_t *host_request(const char *path, uint16_t app, uint16_t flags, int64_t length,
                      const void *body, size_t n, size_t *size);

#endif
