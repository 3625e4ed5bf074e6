"""Where the session manager keeps what must survive it.

`port.Store` is the contract; `memory.MemoryStore` and `sqlite.SqliteStore` implement it.
"""
