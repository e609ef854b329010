/* Fields of an answer: checked, lower-cased and copied out of the application's objects.
 * Before: asgi_send.c reads a message. After: gd_commit writes them into a frame.
 * Not here: what the host does to them (Date, framing, HTTP/2).
 */
#include "asgi.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT = 16, MAX_TEXT = 1 << 20 };

/* Heads that were sent and wait for the next answer: most workers hold one at a time. */
static gd_asgi_held *spare;
static int spares;

gd_asgi_held *gd_asgi_held_new(void) {
    gd_asgi_held *h = spare;
    if (h != NULL) {
        spare = h->next;
        spares--;
    } else {
        h = calloc(1, sizeof *h);
        if (h != NULL) {
            h->room_fields = 32;
            h->room = 1024;
            h->fields = malloc(h->room_fields * sizeof *h->fields);
            h->text = malloc(h->room);
        }
        if (h == NULL || h->fields == NULL || h->text == NULL) {
            if (h != NULL) {
                free(h->fields);
                free(h->text);
                free(h);
            }
            PyErr_NoMemory();
            return NULL;
        }
    }
    h->next = NULL;
    h->status = 0;
    h->length = -1;
    h->nfields = h->used = 0;
    return h;
}

void gd_asgi_held_free(gd_asgi_held *h) {
    if (h == NULL)
        return;
    if (spares < KEPT && h->room <= 8192 && h->room_fields <= 128) {
        h->next = spare;
        spare = h;
        spares++;
        return;
    }
    free(h->fields);
    free(h->text);
    free(h);
}

/* Room for one more field with `n` bytes of text. */
static int reserve(gd_asgi_held *h, size_t n) {
    if (h->nfields == UINT16_MAX || n > MAX_TEXT - h->used) {
        PyErr_SetString(PyExc_ValueError, "the header fields of the response are too large");
        return -1;
    }
    if (h->nfields == h->room_fields) {
        gd_field *fields = realloc(h->fields, 2 * h->room_fields * sizeof *fields);
        if (fields == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        h->fields = fields;
        h->room_fields *= 2;
    }
    if (n > h->room - h->used) {
        size_t room = h->room;
        while (n > room - h->used)
            room *= 2;
        char *text = realloc(h->text, room);
        if (text == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        h->text = text;
        h->room = room;
    }
    return 0;
}

/* Lower case of the characters a field name may have (RFC 9110 token), 0 for others. */
static const unsigned char token[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`',   ['|'] = '|',
    ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',   ['5'] = '5',
    ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['a'] = 'a', ['b'] = 'b',   ['c'] = 'c',
    ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',   ['j'] = 'j',
    ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p',   ['q'] = 'q',
    ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w',   ['x'] = 'x',
    ['y'] = 'y', ['z'] = 'z', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd',   ['E'] = 'e',
    ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',   ['L'] = 'l',
    ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r',   ['S'] = 's',
    ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y',   ['Z'] = 'z',
};

static int is(const char *name, size_t n, const char *other) {
    return n == strlen(other) && memcmp(name, other, n) == 0;
}

/* The host frames the answer: it is told a length, never how to frame. */
static int hop_by_hop(const char *name, size_t n) {
    switch (n) {
    case 2:
        return is(name, n, "te");
    case 7:
        return is(name, n, "upgrade");
    case 10:
        return is(name, n, "connection") || is(name, n, "keep-alive");
    case 16:
        return is(name, n, "proxy-connection");
    case 17:
        return is(name, n, "transfer-encoding");
    default:
        return 0;
    }
}

/* Whether a list of options has "close" among them, whatever its case. */
static int asks_to_close(const char *at, size_t n) {
    for (size_t i = 0; i + 5 <= n; i++) {
        size_t k = 0;
        while (k < 5 && (at[i + k] | 0x20) == "close"[k])
            k++;
        int begins = i == 0 || at[i - 1] == ',' || at[i - 1] == ' ' || at[i - 1] == '\t';
        int ends = i + 5 == n || at[i + 5] == ',' || at[i + 5] == ' ' || at[i + 5] == '\t';
        if (k == 5 && begins && ends)
            return 1;
    }
    return 0;
}

static int content_length(gd_asgi_held *h, const char *at, size_t n) {
    int64_t length = 0;
    size_t i = 0;
    for (; i < n && i < 18 && at[i] >= '0' && at[i] <= '9'; i++)
        length = 10 * length + (at[i] - '0');
    if (n == 0 || i < n) {
        PyErr_SetString(PyExc_ValueError, "content-length must be a decimal number");
        return -1;
    }
    if (h->length >= 0 && h->length != length) {
        PyErr_SetString(PyExc_ValueError, "two different content-length fields");
        return -1;
    }
    h->length = length;
    return 0;
}

int gd_asgi_held_add(gd_asgi_held *h, const char *name, size_t name_len, const char *value,
                     size_t value_len) {
    while (value_len > 0 && (value[0] == ' ' || value[0] == '\t'))
        value++, value_len--;
    while (value_len > 0 && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t'))
        value_len--;
    if (name_len == 0 || name_len > UINT16_MAX || value_len > MAX_TEXT) {
        PyErr_SetString(PyExc_ValueError, "a header name is empty, or a field is too long");
        return -1;
    }
    if (reserve(h, name_len + value_len) < 0)
        return -1;
    char *to = h->text + h->used;
    for (size_t i = 0; i < name_len; i++) {
        to[i] = (char)token[(unsigned char)name[i]];
        if (to[i] == 0) {
            PyErr_Format(PyExc_ValueError, "byte 0x%02x is not allowed in a header name",
                         (unsigned char)name[i]);
            return -1;
        }
    }
    for (size_t i = 0; i < value_len; i++) {
        unsigned char c = (unsigned char)value[i];
        to[name_len + i] = (char)c;
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            to[name_len] = 0;
            PyErr_Format(PyExc_ValueError, "byte 0x%02x is not allowed in the value of header %s",
                         c, to);
            return -1;
        }
    }
    if (is(to, name_len, "content-length"))
        return content_length(h, to + name_len, value_len);
    if (hop_by_hop(to, name_len)) {
        /* The one wish about the connection that an application may have. */
        if (!is(to, name_len, "connection") || !asks_to_close(to + name_len, value_len))
            return 0;
        memcpy(to + name_len, "close", 5);
        value_len = 5;
    }
    /* Offsets for now: the text may still move. */
    h->fields[h->nfields++] = (gd_field){
        .name = {(const char *)(uintptr_t)h->used, name_len},
        .value = {(const char *)(uintptr_t)(h->used + name_len), value_len},
    };
    h->used += name_len + value_len;
    return 0;
}

void gd_asgi_held_seal(gd_asgi_held *h) {
    for (size_t i = 0; i < h->nfields; i++) {
        h->fields[i].name.at = h->text + (uintptr_t)h->fields[i].name.at;
        h->fields[i].value.at = h->text + (uintptr_t)h->fields[i].value.at;
    }
}

/* bytes as they are, other buffers copied; a new reference. */
static PyObject *as_bytes(PyObject *value) {
    if (PyBytes_Check(value)) {
        Py_INCREF(value);
        return value;
    }
    if (PyObject_CheckBuffer(value))
        return PyBytes_FromObject(value);
    PyErr_Format(PyExc_TypeError, "header names and values must be bytes, not %R", Py_TYPE(value));
    return NULL;
}

static int add_pair(gd_asgi_held *h, PyObject *name, PyObject *value) {
    char *n = NULL, *v = NULL;
    Py_ssize_t n_len = 0, v_len = 0;
    int result = -1;
    name = as_bytes(name);
    value = name != NULL ? as_bytes(value) : NULL;
    if (value != NULL && PyBytes_AsStringAndSize(name, &n, &n_len) == 0 &&
        PyBytes_AsStringAndSize(value, &v, &v_len) == 0)
        result = gd_asgi_held_add(h, n, (size_t)n_len, v, (size_t)v_len);
    Py_XDECREF(name);
    Py_XDECREF(value);
    return result;
}

static int add_item(gd_asgi_held *h, PyObject *item) {
    if (PyTuple_Check(item) && PyTuple_Size(item) == 2)
        return add_pair(h, PyTuple_GetItem(item, 0), PyTuple_GetItem(item, 1));
    PyObject *pair = PySequence_Tuple(item);
    if (pair == NULL)
        return -1;
    int result = -1;
    if (PyTuple_Size(pair) == 2)
        result = add_pair(h, PyTuple_GetItem(pair, 0), PyTuple_GetItem(pair, 1));
    else
        PyErr_SetString(PyExc_ValueError, "a header must be a pair of name and value");
    Py_DECREF(pair);
    return result;
}

int gd_asgi_held_fields(gd_asgi_held *h, PyObject *headers) {
    if (PyList_Check(headers)) {
        for (Py_ssize_t i = 0; i < PyList_Size(headers); i++) {
            PyObject *item = PyList_GetItem(headers, i);
            Py_INCREF(item); /* a buffer's own code may change the list */
            int result = add_item(h, item);
            Py_DECREF(item);
            if (result < 0)
                return -1;
        }
        return 0;
    }
    PyObject *iterator = PyObject_GetIter(headers), *item;
    if (iterator == NULL)
        return -1;
    int result = 0;
    while (result == 0 && (item = PyIter_Next(iterator)) != NULL) {
        result = add_item(h, item);
        Py_DECREF(item);
    }
    Py_DECREF(iterator);
    return result < 0 || PyErr_Occurred() ? -1 : 0;
}
