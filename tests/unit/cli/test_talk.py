"""What people see of a run while it works."""

from astromesh.agents.v1 import run_event_pb2

from servers.cli.talk import _shown

STAGE, BRANCH = run_event_pb2.BRANCH_KIND_STAGE, run_event_pb2.BRANCH_KIND_BRANCH


def begun(node, kind):
    return run_event_pb2.RunEvent(
        branch_started=run_event_pb2.BranchStart(node=node, kind=kind, name=node)
    )


def text(piece, node=""):
    return run_event_pb2.RunEvent(text_delta=run_event_pb2.TextDelta(text=piece, node=node))


async def shown(*events):
    async def told():
        for event in events:
            yield event

    await _shown(told())


async def test_each_part_that_speaks_begins_a_line(capsys):
    await shown(begun("a", STAGE), text("one ", "a"), text("two", "a"), begun("b", STAGE))
    await shown(text("three", "b"))
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("one two\nthree\n", "[a: a]\n[b: b]\n")


async def test_parts_that_work_at_the_same_time_do_not_speak_into_one_another(capsys):
    await shown(begun("1", BRANCH), begun("2", BRANCH), text("x", "1"), text("y", "2"), text("z"))
    assert capsys.readouterr().out == "z\n"
