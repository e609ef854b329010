/* Golden vectors of the link (protocol/vectors): the decoders give what they say and
 * refuse what is corrupt; a worker given an answer's values makes its bytes.
 * Usage: vectors FOLDER
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS = 4, LINES = 4096, STREAM = 0x00010002 };

typedef struct {
    gd_str word[TOKENS];
    int words;
} line;

static line lines[LINES];
static int count;
static char name[256];

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: vector %s: %s\n", __FILE__, __LINE__, name, #x);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* ---- reading -------------------------------------------------------------------- */

static int hex(char c) {
    return c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

/* In place: a token is never longer than its text. */
static gd_str unescape(char *s) {
    char *to = s, *from = s;
    if (strcmp(s, "%") == 0)
        return (gd_str){s, 0};
    for (; *from; to++) {
        if (*from == '%') {
            *to = (char)(hex(from[1]) * 16 + hex(from[2]));
            from += 3;
        } else {
            *to = *from++;
        }
    }
    return (gd_str){s, (size_t)(to - s)};
}

static const line *find(const char *key, int nth) {
    for (int i = 1; i < count; i++)
        if (lines[i].word[0].len == strlen(key) && !memcmp(lines[i].word[0].at, key, strlen(key)) &&
            nth-- == 0)
            return &lines[i];
    return NULL;
}

static gd_str text(const char *key) {
    const line *l = find(key, 0);
    CHECK(l && l->words == 2);
    return l->word[1];
}

static int64_t number(const char *key, int word) {
    const line *l = find(key, 0);
    char digits[32] = {0};
    CHECK(l && l->words > word && l->word[word].len < sizeof digits);
    memcpy(digits, l->word[word].at, l->word[word].len);
    return strtoll(digits, NULL, 10);
}

static uint8_t *bytes(gd_str s, size_t *n) {
    uint8_t *p = malloc(s.len / 2 + 1);
    *n = s.len / 2;
    for (size_t i = 0; i < *n; i++)
        p[i] = (uint8_t)(hex(s.at[2 * i]) * 16 + hex(s.at[2 * i + 1]));
    return p;
}

static bool same(gd_str a, gd_str b) {
    return a.len == b.len && !memcmp(a.at, b.at, a.len);
}

static uint16_t fields(gd_field *f, size_t room) {
    uint16_t n = 0;
    for (const line *l; (l = find("field", n)); n++) {
        CHECK(n < room && l->words == 3);
        f[n] = (gd_field){l->word[1], l->word[2]};
    }
    return n;
}

static bool fragmented(void) {
    return strstr(name, "fragmented-") != NULL;
}

/* ---- checking ---------------------------------------------------------------------- */

static void check_request(void) {
    static gd_field want[1024];
    uint8_t *payload = NULL;
    size_t size = 0, n;
    uint8_t flags = 0;
    for (int i = 0; find("frame", i); i++) {
        gd_frame_head h;
        uint8_t *frame = bytes(find("frame", i)->word[1], &n);
        CHECK(gd_frame_decode_head(frame, n, fragmented() ? 512 : 131072, &h) == GD_OK);
        CHECK(h.kind == GD_K_REQUEST && h.stream == STREAM && gd_padded(h.size) == n);
        payload = realloc(payload, size + h.size);
        memcpy(payload + size, frame + GD_HEADER, h.size - GD_HEADER);
        size += h.size - GD_HEADER;
        flags = h.flags;
        free(frame);
    }
    gd_request r;
    gd_str body;
    CHECK(gd_request_decode(payload, size, &r, &body) == GD_OK);
    CHECK(flags == (number("complete", 1) ? GD_END : 0));
    CHECK(r.version == number("version", 1) && r.flags == number("flags", 1));
    CHECK(r.app == number("app", 1) && r.length == number("length", 1));
    CHECK(r.tls_version == number("tls", 1) && r.tls_cipher == number("tls", 2));
    CHECK(r.server_port == number("server_port", 1) && r.client_port == number("client_port", 1));
    const struct {
        const char *key;
        gd_str is;
    } strings[] = {{"id", r.id},
                   {"method", r.method},
                   {"scheme", r.scheme},
                   {"path", r.path},
                   {"raw_path", r.raw_path},
                   {"query", r.query},
                   {"target", r.target},
                   {"root", r.root},
                   {"server_name", r.server_name},
                   {"client_host", r.client_host},
                   {"traceparent", r.traceparent},
                   {"body", body}};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        CHECK(same(strings[i].is, text(strings[i].key)));
    CHECK(r.nfields == fields(want, 1024));
    for (uint16_t i = 0; i < r.nfields; i++)
        CHECK(same(r.fields[i].name, want[i].name) && same(r.fields[i].value, want[i].value));
    gd_request_clear(&r);
    free(payload);
}

static void check_turn(void) {
    static const char *const few[] = {"class", "args", "topic", "why"};
    uint8_t *payload = NULL;
    size_t size = 0, n;
    for (int i = 0; find("frame", i); i++) {
        gd_frame_head h;
        uint8_t *frame = bytes(find("frame", i)->word[1], &n);
        CHECK(gd_frame_decode_head(frame, n, fragmented() ? 512 : 131072, &h) == GD_OK);
        CHECK(h.kind == GD_K_TURN && h.stream == STREAM && gd_padded(h.size) == n);
        payload = realloc(payload, size + h.size);
        memcpy(payload + size, frame + GD_HEADER, h.size - GD_HEADER);
        size += h.size - GD_HEADER;
        CHECK(h.flags == (find("frame", i + 1) ? GD_MORE : GD_END));
        free(frame);
    }
    gd_request r = {0};
    CHECK(gd_turn_decode(payload, size, &r) == GD_OK);
    CHECK(r.app == number("app", 1) && r.turn.do_ == number("do", 1));
    CHECK(r.turn.opened == (number("opened", 1) == 1));
    CHECK(same(r.turn.page, text("page")) && same(r.turn.user, text("user")));
    CHECK(same(r.turn.connection, text("connection")) && same(r.turn.data, text("data")));
    const uint8_t *at = (const uint8_t *)r.turn.rest.at, *end = at + r.turn.rest.len;
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        gd_str one = {(const char *)at + 4, gd_get32(at)};
        CHECK(same(one, text(few[i])));
        at += 4 + one.len;
    }
    CHECK(at == end);
    free(payload);
}

static gd_link *open_link(host *h, gd_stream **s) {
    gd_link *l;
    const char *why;
    size_t n;
    uint8_t kind = GD_WSGI, *request = host_request("/", 0, 0, 0, NULL, 0, &n);
    host_open(h, true, fragmented() ? 4096 : 1 << 20);
    CHECK(gd_link_open(h->spec, &l, &why) == GD_OK);
    CHECK(gd_link_serve(l, &kind, 1, 65536, 1 << 20, 16) == GD_OK);
    host_queue(h, STREAM);
    CHECK(host_send(h, GD_K_REQUEST, GD_END, STREAM, 0, request, n));
    CHECK(gd_next_wsgi(l, s) == GD_OK);
    free(request);
    return l;
}

static void check_answer(const char *kind) {
    static gd_field f[1024];
    host h;
    host_frame got;
    gd_stream *s;
    size_t n;
    int frames = 0;
    while (find("frame", frames))
        frames++;
    uint8_t *last = bytes(find("frame", frames - 1)->word[1], &n);
    int flags = last[5];
    free(last);
    gd_link *l = open_link(&h, &s);
    uint16_t nf = fields(f, 1024);
    ssize_t rc;
    if (strcmp(kind, "trailers") == 0) {
        rc = gd_trailers(s, f, nf, flags, 0);
    } else {
        gd_head head = {(uint16_t)number("status", 1), number("length", 1), text("reason"), nf, f};
        if (strcmp(kind, "commit") == 0)
            rc = gd_commit(s, &head, text("body").at, text("body").len, flags, 0);
        else
            rc = gd_informational(s, &head, 0);
    }
    CHECK(rc >= 0);
    for (int i = 0; i < frames; i++) {
        uint8_t *want = bytes(find("frame", i)->word[1], &n), head[GD_HEADER];
        for (int waits = 0; !host_receive(&h, &got); waits++) {
            CHECK(waits < 100);
            host_wait(&h, 100);
        }
        /* `spent` is a time, which no vector can say: told with the last frame. */
        CHECK((got.h.arg > 0) == (i == frames - 1 && strcmp(kind, "informational") != 0));
        gd_frame_encode_head(head, got.h.size, got.h.kind, got.h.flags, got.h.stream, 0);
        CHECK(gd_padded(got.h.size) == n && !memcmp(head, want, GD_HEADER));
        CHECK(!memcmp(got.payload, want + GD_HEADER, got.n));
        free(want);
    }
    gd_stream_release(s);
    gd_link_close(l);
    host_close(&h);
}

static void check_frame(void) {
    gd_frame_head h;
    size_t n;
    gd_str hexa = text("frame"), payload = text("payload");
    uint8_t *at = bytes(hexa, &n);
    CHECK(gd_frame_decode_head(at, n, 131072, &h) == GD_OK);
    CHECK(h.size == number("size", 1) && h.kind == number("kind", 1));
    CHECK(h.flags == number("flags", 1) && h.stream == number("stream", 1));
    CHECK(h.arg == number("arg", 1) && gd_padded(h.size) == n);
    CHECK(same((gd_str){(char *)at + GD_HEADER, h.size - GD_HEADER}, payload));
    free(at);
}

static void check_corrupt(void) {
    gd_frame_head h;
    gd_request r;
    gd_str body, part = text("part");
    size_t n;
    uint8_t *at = bytes(text("bytes"), &n);
    if (same(part, (gd_str){"header", 6}))
        CHECK(gd_frame_decode_head(at, n, 131072, &h) != GD_OK);
    else if (same(part, (gd_str){"request", 7}))
        CHECK(gd_request_decode(at, n, &r, &body) != GD_OK);
    else if (same(part, (gd_str){"turn", 4}))
        CHECK(gd_turn_decode(at, n, &r) != GD_OK);
    free(at);
}

static void check(void) {
    char kind[32] = {0};
    memcpy(kind, lines[0].word[0].at, lines[0].word[0].len);
    snprintf(name, sizeof name, "%.*s", (int)lines[0].word[1].len, lines[0].word[1].at);
    if (strcmp(kind, "request") == 0)
        check_request();
    else if (strcmp(kind, "turn") == 0)
        check_turn();
    else if (strcmp(kind, "frame") == 0)
        check_frame();
    else if (strcmp(kind, "corrupt") == 0)
        check_corrupt();
    else
        check_answer(kind);
}

static int check_file(const char *folder, const char *file) {
    char path[512], *row = NULL;
    size_t room = 0;
    int vectors = 0;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *in = fopen(path, "r");
    if (!in) {
        perror(path);
        exit(1);
    }
    while (getline(&row, &room, in) > 0) {
        row[strcspn(row, "\n")] = 0;
        if (*row == '#' || !*row)
            continue;
        if (strcmp(row, "end") == 0) {
            check();
            while (count)
                free((void *)lines[--count].word[0].at);
            vectors++;
            continue;
        }
        line *l = &lines[count++];
        char *rest = strdup(row);
        l->words = 0;
        for (char *word; l->words < TOKENS && (word = strsep(&rest, " "));)
            l->word[l->words++] = unescape(word);
    }
    free(row);
    fclose(in);
    return vectors;
}

int main(int argc, char **argv) {
    const char *files[] = {"requests.txt", "turns.txt", "heads.txt", "frames.txt", "corrupt.txt"};
    int all = 0;
    for (int i = 0; argc == 2 && i < 5; i++) {
        int n = check_file(argv[1], files[i]);
        CHECK(n > 0);
        all += n;
    }
    printf("%d vectors\n", all);
    return all ? 0 : 1;
}
