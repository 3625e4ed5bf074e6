"""Fuzzing of everything that a peer or a user can send: bytes that were never seen before, led by the code they reach.

A target is a plain function over bytes that raises where a promise is broken: another error than the documented one,
or a value that does not come back equal. `make fuzz` leads a fuzzer through them; the tests replay the inputs in
`corpus/`, which reach all that was ever reached, and vary them a little.
"""
