from servers.rag.turns import Turns


async def taken(turns, count):
    return [await turns.take() for _ in range(count)]


class TestTurns:
    async def test_go_to_tenants_one_after_the_other(self):
        turns = Turns()
        for name in ("a1", "a2", "a3", "b1", "c1"):
            turns.add(name[0], name)
        assert await taken(turns, 5) == ["a1", "b1", "c1", "a2", "a3"]

    async def test_of_one_tenant_keep_their_order(self):
        turns = Turns()
        turns.add("a", "a1")
        turns.add("a", "a2")
        first = await turns.take()
        turns.put_back("a", first)
        assert [first, *await taken(turns, 2)] == ["a1", "a1", "a2"]

    async def test_of_who_has_many_documents_don_t_hold_up_others(self):
        turns = Turns()
        turns.add("a", "a1")
        turns.add("b", "b1")
        turns.put_back("a", await turns.take())
        assert await taken(turns, 2) == ["b1", "a1"]

    async def test_of_what_is_to_end_come_next(self):
        turns = Turns()
        for name in ("a1", "a2", "b1", "c1"):
            turns.add(name[0], name)
        for name in ("a2", "c1"):
            turns.hasten(name[0], name)
        assert await taken(turns, 4) == ["a2", "c1", "a1", "b1"]

    async def test_of_what_is_in_hand_are_not_two(self):
        turns = Turns()
        turns.add("a", "a1")
        turns.add("b", "b1")
        first = await turns.take()
        turns.hasten("a", first)
        turns.put_back("a", first)
        assert await taken(turns, 2) == ["b1", "a1"]
