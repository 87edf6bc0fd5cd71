"""Where tasks run: worker processes of this machine, an existing scheduler, a cluster for the run.

`session` gives the rest of the program one client for all of these, or none for an inline run;
`connect` finds and checks a cluster that exists, `deploy` makes one from configuration,
`forkserver` and `preload` start local workers fast, `probe` asks workers which files they see.
Nothing here knows what a task computes. Begin with `session`.
"""
