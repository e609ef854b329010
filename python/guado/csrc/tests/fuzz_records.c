/* Records of stores on arbitrary bytes: nothing is read past the end, and all that a record
 * names lies inside its bytes. Run by run_fuzz.sh (libFuzzer).
 */
#include "../records.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n) {
    gd_cursor c = {at, at + n};
    gd_record r;
    while (c.at < c.end) {
        const uint8_t *before = c.at;
        if (gd_record_next(&c, &r) != GD_OK)
            return 0;
        if (c.at <= before || c.at > c.end || r.keys > GD_MOST_KEYS)
            abort();
        for (int i = 0; i < r.keys; i++)
            if ((const uint8_t *)r.path[i].at < before || r.path[i].len > GD_MOST_KEY ||
                (const uint8_t *)r.path[i].at + r.path[i].len > c.at)
                abort();
        for (uint32_t i = 0; i < r.count; i++) {
            gd_str item = gd_record_item(&r);
            if ((const uint8_t *)item.at < before || (const uint8_t *)item.at + item.len > c.at)
                abort();
        }
        if (r.count && r.items.at != r.items.end)
            abort();
    }
    return 0;
}
