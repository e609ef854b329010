/* Interrupts the application's code in a pool thread: with an exception that the
 * interpreter raises there between two instructions.
 * Before: worker/interrupt.py, which took INTERRUPT from the link. After: the code of the
 * application. Not here: waits inside the link, which CANCEL wakes (wsgi_raise).
 *
 * Such an exception is pending until its thread runs instructions again, and a thread may
 * leave the application without that. So it is set only while the thread is inside, and
 * whoever leaves takes back what is pending. The GIL makes both one step.
 */
#include "wsgi.h"

static wsgi_thread *threads; /* all that serve */

void wsgi_interrupt_add(wsgi_thread *t) {
    t->ident = PyThread_get_thread_ident();
    t->next = threads;
    threads = t;
}

void wsgi_interrupt_remove(wsgi_thread *t) {
    for (wsgi_thread **p = &threads; *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            return;
        }
}

void wsgi_enter(wsgi_thread *t) {
    t->inside = true;
}

bool wsgi_leave(wsgi_thread *t) {
    bool was = t->inside;
    t->inside = false;
    if (t->pending)
        PyThreadState_SetAsyncExc(t->ident, NULL);
    t->pending = false;
    return was;
}

/* The exception came out of a wait of our own: once is enough. */
void wsgi_interrupt_told(gd_stream *s) {
    unsigned long here = PyThread_get_thread_ident();
    for (wsgi_thread *t = threads; t; t = t->next)
        if (t->stream == s && t->ident == here) {
            t->told = true;
            if (t->pending)
                PyThreadState_SetAsyncExc(t->ident, NULL);
            t->pending = false;
        }
}

unsigned long wsgi_interrupt(uint32_t stream) {
    for (wsgi_thread *t = threads; t; t = t->next) {
        if (!t->stream || gd_stream_id(t->stream) != stream)
            continue;
        if (t->inside && !t->told) {
            PyThreadState_SetAsyncExc(t->ident, gd_request_timeout);
            t->pending = t->told = true;
        }
        return t->ident;
    }
    return 0;
}
