"""A first service, in one file: run it with `python examples/first_service.py`.

It uses the cluster that runs (`flame up`), or else starts one for as long as the program runs.
"""

import flame


class Counter(flame.FlameService):
    """Counts words in lines of text; the words to count are the session's common data."""

    def on_session_enter(self, context: flame.SessionContext) -> None:
        """Called once per executor: prepare what all tasks share."""
        self.wanted = set((context.common_data or b"").split())

    def on_task_invoke(self, context: flame.TaskContext) -> bytes | None:
        """Called for each task."""
        return str(sum(word in self.wanted for word in context.input.split())).encode()


def main() -> None:
    """Count over a few lines."""
    with flame.connect() as connection:
        connection.register_application("counter", service=Counter)
        with connection.create_session("counter", common_data=b"spark flame") as session:
            # One task: submit it and wait.
            print("one task:", session.invoke(b"a spark is a small flame"))

            # Several: a future each.
            futures = [session.run(line) for line in (b"no fire", b"flame flame", b"spark")]
            flame.wait(futures, timeout=60)
            print("three tasks:", [future.result() for future in futures])

            # Any number, in bounded memory: a generator goes in, outputs come out in its order.
            lines = (b"flame " * (number % 5) for number in range(10_000))
            print("10,000 tasks:", sum(int(output or 0) for output in session.map(lines)))


if __name__ == "__main__":
    main()
