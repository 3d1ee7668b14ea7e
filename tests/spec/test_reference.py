import json
from pathlib import Path

from uscl.spec.reference import settings_page, sweep_schema, values_in_words
from uscl.spec.settings import trial_fields

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
