/* Records of stores, taken apart: sections 2 and 3 of protocol/store.md. Knows nothing of
 * Python, so that it is fuzzed by itself. Before: store_read.c. Not here: what they do.
 */
#ifndef GUADO_RECORDS_H
#define GUADO_RECORDS_H

#include <stddef.h>
#include <stdint.h>

#include "link.h"

enum gd_record_op {
    GD_SET = 1,
    GD_CLEAR,
    GD_DELETE,
    GD_LIST,
    GD_APPEND,
    GD_REPLACE,
    GD_CHANGE,
    GD_DRAIN,
    GD_VERIFY,
    GD_SHARE,
    GD_NOTE
};

enum { GD_MOST_KEYS = 32, GD_MOST_KEY = 512 };

/* What is left to read. */
typedef struct {
    const uint8_t *at, *end;
} gd_cursor;

typedef struct {
    int op, keys;
    gd_str path[GD_MOST_KEYS];
    uint32_t count;  /* of items */
    gd_cursor items; /* for gd_record_item; all of them lie in what was read */
    uint64_t at;     /* of REPLACE; of DRAIN the number */
    uint32_t removed;
} gd_record;

/* The next record: GD_OK, or GD_CORRUPT. The text of keys may be no UTF-8. */
int gd_record_next(gd_cursor *c, gd_record *r);

/* The next of the record's items, as often as it has them. */
gd_str gd_record_item(gd_record *r);

#endif
