"""What joins guado to frameworks: Django, Flask, Starlette and FastAPI, GenroPy. Each module
imports its framework, and only that one.

Before: applications and their settings. After: the public API of guado. Not here: anything
that could not be written without them.

An application that uses one of the first four still runs on another server: there is no page
and no connection then, and logins are the framework's alone.
"""
