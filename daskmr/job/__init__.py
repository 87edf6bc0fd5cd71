"""The user's script: load it, check it, ship it to workers as source; its contexts and its keys.

Begin with `job`; `check` decides whether a script is acceptable, `sources` finds the files that it
imports, and `script` loads them in any process. `map_context` and `contexts` are what its functions
write to, `pickling` copies values, `keys` gives keys their identity, hash and order. `tracebacks`,
`process_errors`, `porting` and `porting_errors` explain failures. Nothing here knows how records are
read or where a task runs.
"""
