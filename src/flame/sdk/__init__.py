"""The client: connections, sessions, futures. Users reach it through `import flame`."""
