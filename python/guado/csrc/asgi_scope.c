/* The scope of a request: a fresh dict, with fresh dicts inside, for every request.
 * Before: link.c decoded a REQUEST. After: the application. Not here: lifespan's scope.
 *
 * Dicts are copied from templates, which is one allocation without resizing; strings
 * that repeat from request to request are kept.
 */
#include "asgi.h"

#include <string.h>

static PyObject *scope_template, *socket_template, *asgi_template, *extensions_template,
    *tls_template;
static PyObject *methods[9]; /* in the order of known_methods */
static const char *const known_methods[] = {"GET",   "POST",    "HEAD",  "PUT",    "DELETE",
                                            "PATCH", "OPTIONS", "TRACE", "CONNECT"};

/* Names and short values that clients repeat, by a hash of their bytes. */
enum { KEPT_NAMES = 256, KEPT_LENGTH = 32 };
static PyObject *kept_names[KEPT_NAMES];

/* The address this host listens on hardly changes: one tuple for as long as it is equal. */
static struct {
    char host[256];
    size_t len;
    uint16_t port;
    PyObject *pair;
} last_server;

int gd_asgi_scope_init(void) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        methods[i] = PyUnicode_InternFromString(known_methods[i]);
        if (methods[i] == NULL)
            return -1;
    }
    struct gd_asgi_names *n = &gd_names;
    asgi_template = Py_BuildValue("{O:O,O:O}", n->version, n->v3_0, n->spec_version, n->v2_5);
    extensions_template =
        Py_BuildValue("{O:O,O:O,O:O,O:O}", n->ext_pathsend, Py_None, n->ext_zerocopysend, Py_None,
                      n->ext_early_hint, Py_None, n->ext_trailers, Py_None);
    tls_template =
        Py_BuildValue("{O:O,O:O,O:O,O:O,O:O,O:O}", n->server_cert, Py_None, n->client_cert_chain,
                      Py_None, n->client_cert_name, Py_None, n->client_cert_error, Py_None,
                      n->tls_version, Py_None, n->cipher_suite, Py_None);
    scope_template = Py_BuildValue(
        "{O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O}", n->type, n->http, n->asgi,
        Py_None, n->http_version, n->v1_1, n->method, Py_None, n->scheme, n->http, n->path, Py_None,
        n->raw_path, Py_None, n->query_string, Py_None, n->root_path, n->empty, n->headers, Py_None,
        n->client, Py_None, n->server, Py_None, n->state, Py_None, n->extensions, Py_None);
    socket_template = Py_BuildValue(
        "{O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O,O:O}", n->type, n->websocket, n->asgi,
        Py_None, n->http_version, n->v1_1, n->scheme, n->ws, n->path, Py_None, n->raw_path, Py_None,
        n->query_string, Py_None, n->root_path, n->empty, n->headers, Py_None, n->client, Py_None,
        n->server, Py_None, n->subprotocols, Py_None, n->state, Py_None, n->extensions, Py_None);
    return asgi_template == NULL || extensions_template == NULL || tls_template == NULL ||
                   scope_template == NULL || socket_template == NULL
               ? -1
               : 0;
}

/* dict[key] = value, which is stolen and may be NULL after an exception. */
static int put(PyObject *dict, PyObject *key, PyObject *value) {
    int result = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
    Py_XDECREF(value);
    return result;
}

/* Invalid UTF-8 becomes U+FFFD, as in the other servers: the path can always be
 * printed and encoded again, and raw_path has the truth. */
static PyObject *text(gd_str s) {
    return PyUnicode_DecodeUTF8(s.at, (Py_ssize_t)s.len, "replace");
}

static PyObject *bytes(gd_str s) {
    return PyBytes_FromStringAndSize(s.at, (Py_ssize_t)s.len);
}

/* ASGI wants the method in upper case; methods that are known are kept. */
static PyObject *method(gd_str m) {
    char upper[64];
    if (m.len > sizeof upper)
        return PyUnicode_DecodeLatin1(m.at, (Py_ssize_t)m.len, NULL);
    for (size_t i = 0; i < m.len; i++)
        upper[i] = (char)(m.at[i] >= 'a' && m.at[i] <= 'z' ? m.at[i] - 'a' + 'A' : m.at[i]);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strlen(known_methods[i]) == m.len && memcmp(known_methods[i], upper, m.len) == 0) {
            Py_INCREF(methods[i]);
            return methods[i];
        }
    }
    return PyUnicode_DecodeLatin1(upper, (Py_ssize_t)m.len, NULL);
}

static PyObject *header_name(gd_str s) {
    if (s.len > KEPT_LENGTH)
        return bytes(s);
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (unsigned char)s.at[i]) * 16777619u;
    PyObject **kept = &kept_names[(hash ^ hash >> 16) % KEPT_NAMES];
    if (*kept == NULL || (size_t)PyBytes_Size(*kept) != s.len ||
        memcmp(PyBytes_AsString(*kept), s.at, s.len) != 0) {
        PyObject *name = bytes(s);
        if (name == NULL)
            return NULL;
        Py_XDECREF(*kept);
        *kept = name;
    }
    Py_INCREF(*kept);
    return *kept;
}

static PyObject *headers(const gd_request *r) {
    PyObject *list = PyList_New(r->nfields);
    for (Py_ssize_t i = 0; list != NULL && i < r->nfields; i++) {
        PyObject *pair = PyTuple_New(2), *name = header_name(r->fields[i].name),
                 *value = bytes(r->fields[i].value);
        if (pair == NULL || name == NULL || value == NULL) {
            Py_XDECREF(pair);
            Py_XDECREF(name);
            Py_XDECREF(value);
            Py_CLEAR(list);
            break;
        }
        PyTuple_SetItem(pair, 0, name);
        PyTuple_SetItem(pair, 1, value);
        PyList_SetItem(list, i, pair);
    }
    return list;
}

/* (host, port); the port of a Unix socket is None. */
static PyObject *address(gd_str host, PyObject *port) {
    PyObject *name = port != NULL ? text(host) : NULL;
    PyObject *pair = name != NULL ? PyTuple_New(2) : NULL;
    if (pair == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(port);
        return NULL;
    }
    PyTuple_SetItem(pair, 0, name);
    PyTuple_SetItem(pair, 1, port);
    return pair;
}

static PyObject *server_address(const gd_request *r) {
    gd_str host = r->server_name;
    if (last_server.pair == NULL || last_server.port != r->server_port ||
        last_server.len != host.len || memcmp(last_server.host, host.at, host.len) != 0) {
        PyObject *port = Py_None;
        if (r->server_port != 0)
            port = PyLong_FromLong(r->server_port);
        else
            Py_INCREF(port);
        PyObject *pair = address(host, port);
        if (pair == NULL || host.len > sizeof last_server.host)
            return pair;
        Py_XDECREF(last_server.pair);
        last_server.pair = pair;
        last_server.port = r->server_port;
        last_server.len = host.len;
        memcpy(last_server.host, host.at, host.len);
    }
    Py_INCREF(last_server.pair);
    return last_server.pair;
}

static PyObject *tls(const gd_request *r) {
    PyObject *d = PyDict_Copy(tls_template);
    if (d == NULL || put(d, gd_names.client_cert_chain, PyList_New(0)) < 0 ||
        put(d, gd_names.tls_version, PyLong_FromLong(r->tls_version)) < 0 ||
        (r->tls_cipher != 0 && put(d, gd_names.cipher_suite, PyLong_FromLong(r->tls_cipher)) < 0))
        Py_CLEAR(d);
    return d;
}

static PyObject *socket_extensions(const gd_request *r) {
    PyObject *d = PyDict_New();
    if (d == NULL || put(d, gd_names.ext_denial, PyDict_New()) < 0 ||
        (r->tls_version != 0 && put(d, gd_names.tls, tls(r)) < 0))
        Py_CLEAR(d);
    return d;
}

/* Appends the names of one field to the list. */
static int split_names(PyObject *list, gd_str value) {
    for (size_t at = 0; at <= value.len;) {
        size_t end = at;
        while (end < value.len && value.at[end] != ',')
            end++;
        size_t first = at, last = end;
        while (first < last && (value.at[first] == ' ' || value.at[first] == '\t'))
            first++;
        while (last > first && (value.at[last - 1] == ' ' || value.at[last - 1] == '\t'))
            last--;
        PyObject *name = PyUnicode_DecodeLatin1(value.at + first, (Py_ssize_t)(last - first), NULL);
        int result = name == NULL ? -1 : last == first ? 0 : PyList_Append(list, name);
        Py_XDECREF(name);
        if (result < 0)
            return -1;
        at = end + 1;
    }
    return 0;
}

static PyObject *subprotocols(const gd_request *r) {
    PyObject *list = PyList_New(0);
    for (uint16_t i = 0; list != NULL && i < r->nfields; i++) {
        gd_str name = r->fields[i].name;
        if (name.len == 22 && memcmp(name.at, "sec-websocket-protocol", 22) == 0 &&
            split_names(list, r->fields[i].value) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *extensions(const gd_request *r) {
    if (r->flags & GD_REQ_SOCKET)
        return socket_extensions(r);
    PyObject *d = PyDict_Copy(extensions_template);
    if (d == NULL || put(d, gd_names.ext_pathsend, PyDict_New()) < 0 ||
        put(d, gd_names.ext_zerocopysend, PyDict_New()) < 0 ||
        put(d, gd_names.ext_early_hint, PyDict_New()) < 0 ||
        put(d, gd_names.ext_trailers, PyDict_New()) < 0 ||
        (r->tls_version != 0 && put(d, gd_names.tls, tls(r)) < 0))
        Py_CLEAR(d);
    return d;
}

/* What is not in the template as it is. */
static int fill(PyObject *scope, const gd_request *r, PyObject *state) {
    struct gd_asgi_names *n = &gd_names;
    if (put(scope, n->asgi, PyDict_Copy(asgi_template)) < 0 ||
        put(scope, n->path, text(r->path)) < 0 || put(scope, n->raw_path, bytes(r->raw_path)) < 0 ||
        put(scope, n->query_string, bytes(r->query)) < 0 ||
        put(scope, n->headers, headers(r)) < 0 || put(scope, n->server, server_address(r)) < 0 ||
        put(scope, n->state, PyDict_Copy(state)) < 0 ||
        put(scope, n->extensions, extensions(r)) < 0)
        return -1;
    bool socket = r->flags & GD_REQ_SOCKET;
    if (socket ? put(scope, n->subprotocols, subprotocols(r)) < 0
               : put(scope, n->method, method(r->method)) < 0)
        return -1;
    if (r->version != 11 &&
        PyDict_SetItem(scope, n->http_version, r->version == 10 ? n->v1_0 : n->v2) < 0)
        return -1;
    if (r->scheme.len == 5 && memcmp(r->scheme.at, "https", 5) == 0 &&
        PyDict_SetItem(scope, n->scheme, socket ? n->wss : n->https) < 0)
        return -1;
    if (r->root.len > 0 && put(scope, n->root_path, text(r->root)) < 0)
        return -1;
    if (r->client_host.len > 0 &&
        put(scope, n->client, address(r->client_host, PyLong_FromLong(r->client_port))) < 0)
        return -1;
    return 0;
}

PyObject *gd_asgi_scope(const gd_request *r, PyObject *state) {
    PyObject *scope = PyDict_Copy(r->flags & GD_REQ_SOCKET ? socket_template : scope_template);
    if (scope != NULL && fill(scope, r, state) < 0)
        Py_CLEAR(scope);
    return scope;
}
