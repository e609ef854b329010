/* Records of stores, taken apart. Contract: records.h. */
#include "records.h"

#include <stdbool.h>

static bool take(gd_cursor *c, size_t n, const uint8_t **at) {
    if ((size_t)(c->end - c->at) < n)
        return false;
    *at = c->at;
    c->at += n;
    return true;
}

static bool number(gd_cursor *c, size_t bytes, uint64_t *n) {
    const uint8_t *at;
    if (!take(c, bytes, &at))
        return false;
    *n = 0;
    for (size_t i = 0; i < bytes; i++)
        *n |= (uint64_t)at[i] << 8 * i;
    return true;
}

static bool text(gd_cursor *c, size_t of_length, gd_str *s) {
    const uint8_t *at;
    uint64_t n;
    if (!number(c, of_length, &n) || !take(c, (size_t)n, &at))
        return false;
    *s = (gd_str){(const char *)at, (size_t)n};
    return true;
}

static bool path(gd_cursor *c, gd_record *r) {
    uint64_t n;
    if (!number(c, 1, &n) || n > GD_MOST_KEYS)
        return false;
    r->keys = (int)n;
    for (int i = 0; i < r->keys; i++)
        if (!text(c, 2, &r->path[i]) || r->path[i].len > GD_MOST_KEY)
            return false;
    return true;
}

/* Looks at all of them, so that gd_record_item needs not. */
static bool items(gd_cursor *c, gd_record *r, bool one) {
    uint64_t n = 1;
    gd_str item;
    if (!one && !number(c, 4, &n))
        return false;
    r->count = (uint32_t)n;
    r->items = *c;
    for (; n > 0; n--)
        if (!text(c, 4, &item))
            return false;
    r->items.end = c->at;
    return true;
}

int gd_record_next(gd_cursor *c, gd_record *r) {
    uint64_t op, removed = 0;
    r->count = 0;
    r->at = r->removed = 0;
    if (!number(c, 1, &op) || op < GD_SET || op > GD_NOTE || op == GD_VERIFY || !path(c, r))
        return GD_CORRUPT;
    r->op = (int)op;
    if ((r->keys > 0) == (op >= GD_CHANGE) && op != GD_CLEAR)
        return GD_CORRUPT;
    bool ok = true;
    switch (r->op) {
    case GD_SET:
    case GD_CHANGE:
    case GD_SHARE:
    case GD_NOTE:
        ok = items(c, r, true);
        break;
    case GD_LIST:
    case GD_APPEND:
        ok = items(c, r, false);
        break;
    case GD_REPLACE:
        ok = number(c, 4, &r->at) && number(c, 4, &removed) && items(c, r, false);
        r->removed = (uint32_t)removed;
        break;
    case GD_DRAIN:
        ok = number(c, 8, &r->at);
        break;
    }
    return ok ? GD_OK : GD_CORRUPT;
}

gd_str gd_record_item(gd_record *r) {
    gd_str item = {NULL, 0};
    text(&r->items, 4, &item);
    return item;
}
