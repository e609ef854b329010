/* environ: a builtin dict of latin-1 str for each request, copied from a template of
 * the thread that already holds what seldom changes. Before: a decoded REQUEST.
 * After: the application. Not here: header names and joined duplicates, which come
 * ready to use from the host.
 *
 * Making a str costs more than comparing its bytes: header names are interned once,
 * and a value equal to the last one under its name is used again (a browser repeats
 * most of its headers).
 */
#include "wsgi.h"

#include <string.h>

enum { TABLE = 1024, MOST_NAMES = 512, LONGEST_NAME = 64, LONGEST_KEPT = 512 };

typedef struct {
    PyObject *key;    /* interned; NULL: free */
    PyObject *value;  /* the last one, ASCII; NULL: none */
    const char *text; /* its bytes */
    uint32_t hash, value_len;
    uint8_t len;
    bool keep; /* false: values differ from request to request, or are secrets */
    char name[LONGEST_NAME];
} header;

/* Guarded by the GIL, shared by all threads. */
static header headers[TABLE];
static int header_count;

static PyObject *key_method, *key_script, *key_path, *key_query, *key_protocol, *key_scheme,
    *key_https, *key_uri, *key_raw_uri, *key_server_name, *key_server_port, *key_remote_addr,
    *key_remote_port, *key_length;
static PyObject *on, *https, *http10, *http20;

static PyObject *str(const char *p, size_t n) {
    return PyUnicode_DecodeLatin1(p, (Py_ssize_t)n, NULL);
}

static int put(PyObject *environ, PyObject *key, PyObject *value) {
    if (value == NULL)
        return -1;
    int result = PyDict_SetItem(environ, key, value);
    Py_DECREF(value);
    return result;
}

static int put_text(PyObject *environ, PyObject *key, gd_str s) {
    return put(environ, key, str(s.at, s.len));
}

static bool is(gd_str s, const char *text) {
    return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* ---- header fields ------------------------------------------------------------ */

static bool differs_always(gd_str name) {
    static const char *const names[] = {"HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION",
                                        "HTTP_COOKIE",        "HTTP_X_REQUEST_ID",
                                        "HTTP_TRACEPARENT",   "HTTP_X_CSRFTOKEN"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is(name, names[i]))
            return true;
    return false;
}

static uint64_t mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint32_t hash_of(gd_str name) {
    uint64_t h = name.len, word = 0;
    size_t i = 0;
    for (; i + 8 <= name.len; i += 8) {
        memcpy(&word, name.at + i, 8);
        h = mix(h, word);
    }
    word = 0;
    memcpy(&word, name.at + i, name.len - i);
    return (uint32_t)mix(h, word);
}

/* NULL: the name is not kept (too long, or too many different ones), or failed with
 * an exception. */
static header *header_of(gd_str name) {
    if (name.len > LONGEST_NAME)
        return NULL;
    uint32_t hash = hash_of(name), i = hash % TABLE;
    for (; headers[i].key != NULL; i = (i + 1) % TABLE)
        if (headers[i].hash == hash && headers[i].len == name.len &&
            memcmp(headers[i].name, name.at, name.len) == 0)
            return &headers[i];
    if (header_count == MOST_NAMES)
        return NULL;
    PyObject *key = str(name.at, name.len);
    if (key == NULL)
        return NULL;
    PyUnicode_InternInPlace(&key);
    header *h = &headers[i];
    *h =
        (header){.key = key, .hash = hash, .len = (uint8_t)name.len, .keep = !differs_always(name)};
    memcpy(h->name, name.at, name.len);
    header_count++;
    return h;
}

static int put_header(PyObject *environ, const gd_field *f) {
    header *h = header_of(f->name);
    if (h == NULL) {
        PyObject *key = PyErr_Occurred() ? NULL : str(f->name.at, f->name.len);
        int result = key ? put_text(environ, key, f->value) : -1;
        Py_XDECREF(key);
        return result;
    }
    if (h->value != NULL && h->value_len == f->value.len &&
        memcmp(h->text, f->value.at, f->value.len) == 0)
        return PyDict_SetItem(environ, h->key, h->value);
    PyObject *value = str(f->value.at, f->value.len);
    if (value == NULL)
        return -1;
    if (h->keep && f->value.len <= LONGEST_KEPT) {
        Py_ssize_t n;
        const char *text = PyUnicode_AsUTF8AndSize(value, &n);
        if (text == NULL)
            PyErr_Clear();
        else if ((size_t)n == f->value.len) { /* ASCII: its own memory holds the bytes */
            Py_XDECREF(h->value);
            Py_INCREF(value);
            h->value = value;
            h->text = text;
            h->value_len = (uint32_t)n;
        }
    }
    return put(environ, h->key, value);
}

static int put_headers(PyObject *environ, const gd_request *r) {
    for (size_t i = 0; i < r->nfields; i++)
        if (put_header(environ, &r->fields[i]) < 0)
            return -1;
    /* HTTP/2 may leave Content-Length out of a body whose length the host has counted. */
    if (r->length <= 0)
        return 0;
    int has = PyDict_Contains(environ, key_length);
    if (has != 0)
        return has < 0 ? -1 : 0;
    return put(environ, key_length, PyUnicode_FromFormat("%lld", (long long)r->length));
}

/* ---- what the template already holds -------------------------------------------- */

/* Sets in template and environ what differs from the last request of this thread. */
static int put_kept(wsgi_template *t, PyObject *environ, PyObject *key, gd_str s, char *kept,
                    size_t room, size_t *kept_len) {
    if (s.len == *kept_len && memcmp(kept, s.at, s.len) == 0)
        return 0;
    PyObject *value = str(s.at, s.len);
    if (value == NULL)
        return -1;
    if (s.len <= room) {
        memcpy(kept, s.at, s.len);
        *kept_len = s.len;
        if (PyDict_SetItem(t->dict, key, value) < 0) {
            Py_DECREF(value);
            return -1;
        }
    } else {
        *kept_len = SIZE_MAX;
    }
    return put(environ, key, value);
}

static PyObject *port_text(uint16_t port) {
    char digits[5];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + port % 10);
    while ((port /= 10) != 0);
    return str(digits + at, sizeof digits - at);
}

static int put_server_port(wsgi_template *t, PyObject *environ, uint16_t port) {
    if (port == t->server_port)
        return 0;
    PyObject *value = port_text(port);
    if (value == NULL || PyDict_SetItem(t->dict, key_server_port, value) < 0) {
        Py_XDECREF(value);
        return -1;
    }
    t->server_port = port;
    return put(environ, key_server_port, value);
}

static int put_addresses(wsgi_template *t, PyObject *environ, const gd_request *r, bool https_on) {
    /* On a Unix socket there is no port, and SERVER_PORT may not be empty. */
    uint16_t port = r->server_port ? r->server_port : https_on ? 443 : 80;
    if (put_kept(t, environ, key_server_name, r->server_name, t->server_name, sizeof t->server_name,
                 &t->server_name_len) < 0 ||
        put_server_port(t, environ, port) < 0 ||
        put_kept(t, environ, key_remote_addr, r->client_host, t->client_host, sizeof t->client_host,
                 &t->client_host_len) < 0)
        return -1;
    return r->client_port ? put(environ, key_remote_port, port_text(r->client_port)) : 0;
}

static int put_scheme(wsgi_template *t, PyObject *environ, bool https_on) {
    if (https_on == t->https)
        return 0;
    PyObject *dicts[] = {t->dict, environ};
    for (int i = 0; i < 2; i++) {
        PyObject *scheme = https_on ? https : PyUnicode_FromString("http");
        if (https_on)
            Py_INCREF(scheme);
        if (put(dicts[i], key_scheme, scheme) < 0)
            return -1;
        int result = https_on ? PyDict_SetItem(dicts[i], key_https, on)
                              : PyDict_DelItem(dicts[i], key_https);
        if (result < 0)
            return -1;
    }
    t->https = https_on;
    return 0;
}

/* ---- the request ------------------------------------------------------------------ */

static int put_method(PyObject *environ, gd_str method) {
    return is(method, "GET") ? 0 : put_text(environ, key_method, method);
}

static int put_protocol(PyObject *environ, uint8_t version) {
    if (version == 11)
        return 0;
    return PyDict_SetItem(environ, key_protocol, version == 10 ? http10 : http20);
}

static int put_path(PyObject *environ, const gd_request *r) {
    gd_str path = r->path, root = r->root;
    if (root.len > 0) {
        if (put_text(environ, key_script, root) < 0)
            return -1;
        size_t cut = root.len < path.len ? root.len : path.len;
        path = (gd_str){path.at + cut, path.len - cut};
    }
    if (put_text(environ, key_path, path) < 0)
        return -1;
    if (r->query.len > 0 && put_text(environ, key_query, r->query) < 0)
        return -1;
    PyObject *target = str(r->target.at, r->target.len);
    if (target == NULL || PyDict_SetItem(environ, key_raw_uri, target) < 0) {
        Py_XDECREF(target);
        return -1;
    }
    return put(environ, key_uri, target);
}

PyObject *wsgi_environ_make(wsgi_template *t, const gd_request *r) {
    PyObject *environ = t->next ? t->next : PyDict_Copy(t->dict);
    t->next = NULL;
    if (environ == NULL)
        return NULL;
    bool https_on = is(r->scheme, "https");
    if (put_method(environ, r->method) < 0 || put_path(environ, r) < 0 ||
        put_protocol(environ, r->version) < 0 || put_scheme(t, environ, https_on) < 0 ||
        put_addresses(t, environ, r, https_on) < 0 || put_headers(environ, r) < 0)
        Py_CLEAR(environ);
    return environ;
}

int wsgi_template_set(wsgi_template *t, const char *key, PyObject *value) {
    PyObject *name = PyUnicode_InternFromString(key);
    int result = name && value ? PyDict_SetItem(t->dict, name, value) : -1;
    Py_XDECREF(name);
    return result;
}

/* Every key of every request stands in the template: a copy then has its final size,
 * and setting a value replaces one. */
int wsgi_template_make(wsgi_template *t, PyObject *fixed) {
    static const struct {
        const char *key, *value;
    } first[] = {{"REQUEST_METHOD", "GET"},
                 {"SCRIPT_NAME", ""},
                 {"PATH_INFO", ""},
                 {"QUERY_STRING", ""},
                 {"REQUEST_URI", ""},
                 {"RAW_URI", ""},
                 {"SERVER_PROTOCOL", "HTTP/1.1"},
                 {"SERVER_NAME", ""},
                 {"SERVER_PORT", ""},
                 {"REMOTE_ADDR", ""},
                 {"wsgi.url_scheme", "http"}};
    *t = (wsgi_template){.dict = PyDict_New()};
    if (t->dict == NULL)
        return -1;
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        PyObject *value = PyUnicode_InternFromString(first[i].value);
        int result = wsgi_template_set(t, first[i].key, value);
        Py_XDECREF(value);
        if (result < 0)
            return -1;
    }
    return PyDict_Update(t->dict, fixed);
}

int wsgi_environ_init(void) {
    static const struct {
        PyObject **at;
        const char *text;
    } interned[] = {{&key_method, "REQUEST_METHOD"},
                    {&key_script, "SCRIPT_NAME"},
                    {&key_path, "PATH_INFO"},
                    {&key_query, "QUERY_STRING"},
                    {&key_protocol, "SERVER_PROTOCOL"},
                    {&key_scheme, "wsgi.url_scheme"},
                    {&key_https, "HTTPS"},
                    {&key_uri, "REQUEST_URI"},
                    {&key_raw_uri, "RAW_URI"},
                    {&key_server_name, "SERVER_NAME"},
                    {&key_server_port, "SERVER_PORT"},
                    {&key_remote_addr, "REMOTE_ADDR"},
                    {&key_remote_port, "REMOTE_PORT"},
                    {&key_length, "CONTENT_LENGTH"},
                    {&on, "on"},
                    {&https, "https"},
                    {&http10, "HTTP/1.0"},
                    {&http20, "HTTP/2.0"}};
    for (size_t i = 0; i < sizeof interned / sizeof *interned; i++)
        if ((*interned[i].at = PyUnicode_InternFromString(interned[i].text)) == NULL)
            return -1;
    return 0;
}
