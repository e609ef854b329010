"""The worker's Python side: boots the application and serves it.

Before: the host starts the interpreter with a one-line bootstrap (guado._bootstrap).
After: wsgi and asgi call the application. Not here: the link, which is C (guado._core).

How the parts meet: `boot` opens the link, reads HELLO, imports the applications in
the main thread, tells the link their kinds (``link.serve``) and then calls

* ``guado.worker.wsgi.start(link, apps, hello) -> None``   starts the threads, returns
* ``guado.worker.asgi.serve(link, apps, hello, ending) -> None``   runs the loop in the
  main thread until the link is drained; it calls ``hello.ready(loop="uvloop")`` once
  every lifespan has started, or raises ``BootFailed(stage="lifespan", ...)``

`apps` is the list of all applications in HELLO's order (``handshake.App``: index,
name, kind, callable, lifespan); each part takes those of its kind. Without an ASGI
application boot itself calls ``hello.ready()`` and waits for the drain.
``hello.context`` is the copy of the context taken after import: the base of every
request's own copy.
"""
