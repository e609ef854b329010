/* Decoders on arbitrary bytes: nothing is read past the end, and whatever a REQUEST
 * decodes to lies inside its bytes. Run by run_fuzz.sh (libFuzzer).
 */
#include "../internal.h"

#include <stdlib.h>

static void inside(gd_str s, const uint8_t *at, size_t n) {
    if (s.len && ((const uint8_t *)s.at < at || (const uint8_t *)s.at + s.len > at + n))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n) {
    gd_frame_head h;
    gd_request r;
    gd_str body;
    if (gd_frame_decode_head(at, n, 131072, &h) == GD_OK &&
        (h.size < GD_HEADER || (h.size > 131072 && h.kind != GD_K_PAD)))
        abort();
    gd_request turn = {0};
    if (gd_turn_decode(at, n, &turn) == GD_OK) {
        const gd_turn *t = &turn.turn;
        const gd_str all[] = {t->page, t->user, t->connection, t->data, t->rest};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            inside(all[i], at, n);
    }
    if (gd_request_decode(at, n, &r, &body) != GD_OK)
        return 0;
    const gd_str all[] = {r.id,     r.method, r.scheme,      r.path,        r.raw_path,    r.query,
                          r.target, r.root,   r.server_name, r.client_host, r.traceparent, body};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        inside(all[i], at, n);
    for (uint16_t i = 0; i < r.nfields; i++) {
        inside(r.fields[i].name, at, n);
        inside(r.fields[i].value, at, n);
    }
    gd_request_clear(&r);
    return 0;
}
