"""The user's script: loaded, checked, shipped to workers as source; what it writes to; its keys.

Here lives what knows about the script itself: finding its functions and the files it imports
(`job`, `sources`), the contexts that its functions get (`contexts`), the identity, hash and order
of keys (`keys`), and tracebacks of its code alone (`tracebacks`). Nothing here knows how records are
read or where a task runs. Begin with `job`.
"""
