"""Budgets in the configuration folder: all of them are applied, or the mesh does not start."""

from pathlib import Path

import pytest

from servers.cli.validate import faults
from servers.config import load_config
from servers.domain.usage import BudgetAction, Window
from servers.kernel.errors import InvalidInput
from servers.router.budgets.budget import Budget, Limit

HEAD = "apiVersion: astromesh/v1\nkind: Budget\nmetadata: {name: NAME}\nspec:\n"
LIMIT = "limit: {tokens: 10}"


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "budgets").mkdir()
    return tmp_path


def document(name: str, spec: str) -> str:
    return HEAD.replace("NAME", name) + f"  {{{spec}}}\n"


def write(folder: Path, file: str, *documents: str) -> None:
    (folder / file).write_text("---\n".join(documents))


def budgets(folder: Path, **env: str) -> dict[str, Budget]:
    found = load_config(folder, folder / "state", env).budgets
    return {budget.name: budget for budget in found}


class TestBudgets:
    def test_are_read_from_one_file_and_from_a_folder(self, folder):
        both = document("a", f"window: day, {LIMIT}"), document("b", f"window: run, {LIMIT}")
        write(folder, "budgets.yaml", *both)
        write(folder, "budgets/c.budget.yaml", document("c", f"window: hour, {LIMIT}"))
        write(folder, "budgets/d.budget.yml", document("d", f"window: month, {LIMIT}"))
        assert list(budgets(folder)) == ["a", "b", "c", "d"]

    def test_have_limits_in_whole_numbers(self, folder):
        write(folder, "budgets.yaml", document("a", "window: day, limit: {usd: 0.1, tokens: 7}"))
        assert budgets(folder)["a"].limit == Limit(100_000_000, 7)

    def test_say_what_they_count_and_what_apart(self, folder):
        spec = f"match: {{tenant: acme, agent: 'h*'}}, per: [session], window: day, {LIMIT}"
        write(folder, "budgets.yaml", document("a", spec + ", action: warn"))
        found = budgets(folder)["a"]
        assert [(name, each.text) for name, each in found.match] == [
            ("tenant", "acme"),
            ("agent", "h*"),
        ]
        assert (found.apart, found.window, found.action) == (
            ("session",),
            Window.DAY,
            BudgetAction.WARN,
        )

    @pytest.mark.parametrize(
        ("spec", "apart"),
        [
            ("window: run", ("tenant", "run")),
            ("window: run, match: {tenant: 'a*'}", ("tenant", "run")),
            ("window: run, match: {tenant: acme}", ("run",)),
            ("window: day, per: session", ("tenant", "session")),
            ("window: day, per: [model, tenant, model]", ("tenant", "model")),
            ("window: day, per: [provider]", ("provider",)),
            ("window: day", ()),
        ],
    )
    def test_count_tenants_apart_where_a_name_is_a_tenant_s(self, folder, spec, apart):
        write(folder, "budgets.yaml", document("a", f"{spec}, {LIMIT}"))
        assert budgets(folder)["a"].apart == apart

    def test_may_have_limits_from_variables(self, folder):
        write(folder, "budgets.yaml", document("a", "window: day, limit: {usd: '${MOST}'}"))
        assert budgets(folder, MOST="2.5")["a"].limit == Limit(2_500_000_000, None)

    def test_may_be_switched_off_by_comments(self, folder):
        write(folder, "budgets.yaml", "# " + document("a", "x: y").replace("\n", "\n# "))
        assert budgets(folder) == {}


class TestAFaultyBudget:
    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ("window: day", "spec.limit: is missing"),
            (LIMIT, "spec.window: is missing"),
            ("window: day, limit: {}", "spec.limit: give usd, tokens or both"),
            ("window: day, limit: {usd: 0}", "spec.limit.usd: must be greater than 0"),
            ("window: day, limit: {usd: -1}", "spec.limit.usd: must be greater than 0"),
            ("window: day, limit: {usd: 2000000}", "spec.limit.usd: must be less than or equal to"),
            ("window: day, limit: {tokens: 0}", "spec.limit.tokens: must be greater than or equal"),
            ("window: day, limit: {tokens: 1.5}", "spec.limit.tokens: expected a whole number"),
            ("window: day, limit: {eur: 1}", "unknown key 'eur'; known are usd, tokens"),
            (f"window: week, {LIMIT}", "spec.window: unknown value 'week'; known are run, hour"),
            (f"window: day, {LIMIT}, action: stop", "spec.action: unknown value 'stop'"),
            (f"window: day, {LIMIT}, per: [sesion]", "unknown value 'sesion'; .*mean 'session'"),
            (f"window: day, {LIMIT}, match: {{modle: m}}", "unknown key 'modle'; .*mean 'model'"),
            (f"window: day, {LIMIT}, match: {{tenant: 7}}", "spec.match.tenant: expected text"),
            (
                f"window: day, {LIMIT}, match: {{provider: opnai}}",
                "spec.match.provider: no provider is named 'opnai'; did you mean 'openai'",
            ),
        ],
    )
    def test_keeps_the_mesh_from_starting_and_names_file_line_and_field(self, folder, spec, says):
        write(folder, "budgets/x.budget.yaml", document("a", spec))
        with pytest.raises(InvalidInput, match=rf"^x\.budget\.yaml:\d: .*{says}") as caught:
            budgets(folder)
        assert caught.value.reason == "MANIFEST_INVALID"

    def test_is_one_whose_name_is_taken(self, folder):
        write(folder, "budgets.yaml", document("twin", f"window: day, {LIMIT}"))
        write(folder, "budgets/x.budget.yaml", document("twin", f"window: day, {LIMIT}"))
        with pytest.raises(
            InvalidInput,
            match=r"^x\.budget\.yaml:3: metadata\.name: budgets\.yaml declares .* 'twin', too",
        ):
            budgets(folder)

    def test_is_one_of_another_kind(self, folder):
        write(folder, "budgets.yaml", document("a", LIMIT).replace("Budget", "Budgte"))
        with pytest.raises(InvalidInput, match=r"budgets\.yaml:2: kind: expected 'Budget'"):
            budgets(folder)

    def test_is_found_by_validate_in_a_folder_and_in_a_file(self, folder):
        write(folder, "budgets.yaml", document("a", LIMIT))
        for path in (folder, folder / "budgets.yaml"):
            (fault,) = faults([path])
            assert fault.message == "budgets.yaml:4: spec.window: is missing"


class TestAProviderOfABudget:
    @pytest.mark.parametrize("name", ["openai", "company", "comp*", "*"])
    def test_is_a_declared_one_a_type_or_a_pattern(self, folder, name):
        (folder / "providers.yaml").write_text(
            "apiVersion: astromesh/v1\nkind: ProviderConfig\nmetadata: {name: p}\n"
            "spec: {providers: {company: {type: ollama}}}\n"
        )
        spec = f"window: day, {LIMIT}, match: {{provider: '{name}'}}"
        write(folder, "budgets.yaml", document("a", spec))
        assert budgets(folder)["a"].match


def test_a_budget_in_a_file_that_nobody_reads_is_told_of(folder):
    text = document("a", f"window: day, {LIMIT}")
    write(folder, "budgets/x.yaml", text)
    write(folder, "daily.yaml", text)
    where = "budgets are read from budgets.yaml and budgets/*.budget.yaml only"
    assert load_config(folder, folder, {}).notices == (
        f"budgets/x.yaml: {where}; the file has no effect",
        f"daily.yaml: {where}; the file has no effect",
    )


class TestRedis:
    RUNTIME = "apiVersion: astromesh/v1\nkind: RuntimeConfig\nmetadata: {name: r}\nspec: {redis: "

    def runtime(self, folder: Path, redis: str):
        (folder / "runtime.yaml").write_text(self.RUNTIME + redis + "}\n")
        return load_config(folder, folder, {"PASSWORD": "hunter2"}).runtime.redis

    @pytest.mark.parametrize("scheme", ["redis", "rediss"])
    def test_is_named_by_a_url_that_may_hold_a_password(self, folder, scheme):
        redis = self.runtime(folder, f"{{url: '{scheme}://:${{PASSWORD}}@h:7/1', prefix: p}}")
        assert (redis.url, redis.prefix) == (f"{scheme}://:hunter2@h:7/1", "p")
        assert "hunter2" not in repr(redis)

    @pytest.mark.parametrize(
        "url", ["h:7", "http://:hunter2@h:7", "redis://", "redis://:hunter2@h:x"]
    )
    def test_at_what_is_no_address_of_one_is_refused_without_showing_it(self, folder, url):
        with pytest.raises(InvalidInput, match=r"spec\.redis\.url: expected redis://") as caught:
            self.runtime(folder, f"{{url: '{url}'}}")
        assert "hunter2" not in caught.value.message

    @pytest.mark.parametrize("prefix", ["{a}", "a b", "a*"])
    def test_has_keys_that_begin_plainly(self, folder, prefix):
        with pytest.raises(InvalidInput, match=r"spec\.redis\.prefix"):
            self.runtime(folder, f"{{prefix: '{prefix}'}}")
