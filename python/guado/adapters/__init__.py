"""What joins guado to frameworks. Each module imports its framework, and only that one.

Before: applications and their settings. After: the public API of guado. Not here: anything
that a worker needs.
"""
