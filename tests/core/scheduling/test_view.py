"""A view is data: it can be written down and read again, so that a plan can be explained later."""

import msgspec

from flame.core.scheduling.view import Bind, ExecutorView, NodeView, Plan, SessionView, View
from flame.model.resources import Resources


def test_a_view_and_a_plan_round_trip() -> None:
    view = View(
        sessions=(SessionView(number=1, priority=2, resources=Resources(cpu=1), least=0, wants=3, used_ms=4),),
        executors=(ExecutorView(id="1-1", node="n", resources=Resources(cpu=1), session=1),),
        nodes=(NodeView(name="n", capacity=Resources(cpu=2)),),
        rotation_ms=250,
    )
    assert msgspec.json.decode(msgspec.json.encode(view), type=View) == view
    plan = Plan(bind=(Bind(1, "n"),), unbind=("1-1",))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
