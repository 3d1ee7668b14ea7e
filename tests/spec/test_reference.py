import json
from pathlib import Path

from uscl.spec.ranges import NOT_SEARCHED
from uscl.spec.reference import settings_page, sweep_schema, values_in_words
from uscl.spec.settings import is_list_field, trial_fields

ROOT = Path(__file__).parents[2]


def test_docs_settings_is_what_the_code_says():
    """To renew the page: uscl schema --markdown > docs/settings.md"""
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings_page()


def test_every_setting_is_described():
    page = settings_page()
    for name, field in trial_fields().items():
        if name == "seed":
            continue
        assert f"| `{name}` |" in page
        assert (field.description or "").strip(), f"{name} has no docstring"


def test_values_in_words():
    fields = trial_fields()
    assert values_in_words(fields["image.size"]) == "whole number, >= 16, multiple of 16"
    assert values_in_words(fields["labels.fraction"]) == "number, > 0, <= 1"
    assert values_in_words(fields["temporal.stage"]) == "`encoder`, `decoder`, `both`"
    assert values_in_words(fields["speckle.classes"]) == "list of names"


def test_the_schema_knows_what_the_reader_knows():
    schema = json.loads(json.dumps(sweep_schema()))
    fixed = schema["properties"]["fixed"]["properties"]
    assert {name for name in trial_fields() if name != "data"} <= fixed.keys()
    assert fixed["temporal.window"]["exclusiveMinimum"] == 0
    assert fixed["temporal"]["properties"]["window"] == fixed["temporal.window"]
    assert "data" not in fixed
    row = schema["properties"]["rows"]["items"]["properties"]
    assert row["temporal.stage"]["anyOf"][1]["items"]["enum"] == ["encoder", "decoder", "both"]
    assert row["label"] == {"type": "string"}
    assert "label" not in schema["properties"]["grid"]["properties"]


def test_the_schema_and_the_page_know_a_search():
    search = json.loads(json.dumps(sweep_schema()))["properties"]["search"]
    assert search["required"] == ["trials", "objectives", "space"] and not search["additionalProperties"]
    assert search["properties"]["sampler"]["enum"] == ["tpe", "random", "gp", "nsga2"]
    space = search["properties"]["space"]["properties"]
    assert space["temporal"]["properties"]["window"] == space["temporal.window"]
    forms = {tuple(form["required"]) for form in space["temporal.window"]["anyOf"] if "required" in form}
    assert forms == {("choice",), ("int",), ("float",)}
    assert [form.get("required") for form in space["temporal.stage"]["anyOf"]] == [None, ["choice"]]
    assert space["temporal.stage"]["anyOf"][0]["items"]["enum"] == ["encoder", "decoder", "both"]
    assert [form.get("required") for form in space["decoder.level"]["anyOf"]] == [None, ["choice"], ["int"]]
    assert not {"data", "seed", "seed.pretrain", "labels.draw", "split", "split.seed", "speckle.classes"} & space.keys()
    page = settings_page()
    assert all(f"| `search.{name}` |" in page for name in search["properties"])
    assert "| `search.trials` | whole number, >= 1 | none |" in page


def test_what_the_reader_takes_in_a_search_is_in_the_schema():
    """Every setting that may be searched is offered with every range it may have, and no other."""
    space = sweep_schema()["properties"]["search"]["properties"]["space"]["properties"]
    offered = {name for name in trial_fields() if name in space}
    lists = {name for name, field in trial_fields().items() if is_list_field(field)}
    assert offered == trial_fields().keys() - NOT_SEARCHED.keys() - lists
