"""The turnstile: few calls in a pass of the event loop, in their order, and none is lost."""

import asyncio

from flame.model.limits import MAX_UNARY_PER_TURN
from flame.session_manager.turnstile import PLACE_BYTES, Turnstile


def test_few_go_through_in_one_pass_and_all_in_order() -> None:
    async def main() -> None:
        turnstile, passed, passes = Turnstile(), list[int](), list[int]()

        async def call(number: int) -> None:
            await turnstile.enter()
            passed.append(number)

        calls = [asyncio.create_task(call(number)) for number in range(10 * MAX_UNARY_PER_TURN)]
        while len(passed) < len(calls):
            before = len(passed)
            await asyncio.sleep(0)
            passes.append(len(passed) - before)
        assert passed == list(range(len(calls)))
        assert max(passes) <= MAX_UNARY_PER_TURN
        assert len(passes) <= 25, "it goes on pass by pass"

    asyncio.run(main())


def test_a_lone_call_does_not_wait() -> None:
    async def main() -> None:
        turnstile = Turnstile()
        for _ in range(3 * MAX_UNARY_PER_TURN):
            entered = turnstile.enter()
            try:
                entered.send(None)
            except StopIteration:
                pass
            else:
                raise AssertionError("it waited")
            await asyncio.sleep(0)

    asyncio.run(main())


def test_a_call_that_is_cancelled_takes_no_place() -> None:
    async def main() -> None:
        turnstile = Turnstile()
        calls = [asyncio.create_task(turnstile.enter()) for _ in range(5 * MAX_UNARY_PER_TURN)]
        await asyncio.sleep(0)
        for call in calls[MAX_UNARY_PER_TURN:-1]:
            call.cancel()
        async with asyncio.timeout(10):
            await calls[-1]

    asyncio.run(main())


def test_large_answers_let_fewer_through_until_they_are_paid_for() -> None:
    async def test() -> list[int]:
        turnstile = Turnstile()
        await turnstile.enter()
        turnstile.charge(PLACE_BYTES - 1)  # small ones are free
        turnstile.charge(PLACE_BYTES * (2 * MAX_UNARY_PER_TURN - 1))
        through: list[int] = []

        async def call(number: int) -> None:
            await turnstile.enter()
            through.append(number)

        calls = [asyncio.ensure_future(call(number)) for number in range(MAX_UNARY_PER_TURN + 1)]
        seen: list[int] = []
        while not all(one.done() for one in calls):
            await asyncio.sleep(0)
            if not seen or seen[-1] != len(through):
                seen.append(len(through))
        assert through == list(range(MAX_UNARY_PER_TURN + 1))
        return seen

    assert asyncio.run(test()) == [0, MAX_UNARY_PER_TURN, MAX_UNARY_PER_TURN + 1]
