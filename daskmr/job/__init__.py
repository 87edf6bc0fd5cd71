"""The user's script: load it, check it, and ship it to workers as source; its contexts and keys.

Begin with `job`. `check` decides whether a script is acceptable, `sources` finds the files that it
imports, and `script` loads them in any process. Its functions write to `map_context` and `contexts`,
`pickling` copies values, and `keys` defines the identity, hash and order of keys. `tracebacks`,
`process_errors`, `porting` and `porting_errors` explain failures. This package does not depend on how
records are read or where a task runs.
"""
