"""One bad file per error message; the whole message is compared."""
# ruff: noqa: E501  one case per line

from pathlib import Path

import pytest
from sweep_files import GOOD, load_text

from uscl.errors import SpecError
from uscl.spec.reader import load_sweep

POLARITIES = "one of none, positive, negative, positive_negative"

# (what is wrong, the file, the message without `<folder>/x.yaml:`)
BAD_FILES = [
    ("unknown setting", GOOD + "fixed:\n  temporal.windw: 3\n", "9: temporal.windw: unknown key; did you mean 'temporal.window'?"),
    ("unknown nested", GOOD + "fixed:\n  temporal:\n    windw: 3\n", "10: temporal.windw: unknown key; did you mean 'temporal.window'?"),
    ("unknown in row", GOOD.replace("temporal.polarity", "temporal.polarty"), "5: temporal.polarty: unknown key; did you mean 'temporal.polarity'?"),
    ("unknown in grid", GOOD.replace("  seed:", "  sead:"), "7: sead: unknown key; did you mean 'seed'?"),
    ("bare name", GOOD + "fixed: {steps: 3}\n", "8: steps: unknown key; did you mean 'encoder.steps' or 'decoder.steps' or 'pixel.steps' or 'finetune.steps' or 'nnunet.steps'?"),
    ("unknown and far", GOOD + "fixed: {zzz: 3}\n", "8: zzz: unknown key"),
    ("unknown top", GOOD.replace("grid:", "girds:"), "6: girds: unknown key; did you mean 'grid'?"),
    ("rows and a search", GOOD + "search: {trials: 4}\n", "4: rows: 'search:' (line 8) proposes the cells; keep one of the two"),
    ("setting on top", GOOD + "finetune.steps: 4\n", "8: finetune.steps: unknown key; settings of every cell belong under 'fixed:' ('fixed: {finetune.steps: ...}')"),
    ("a group", GOOD + "fixed: {contrast: 3}\n", "8: contrast: is a group of settings (contrast.loss, contrast.form, contrast.temperature, contrast.margin, ...); name one of them"),
    ("whole number", GOOD + "fixed: {finetune.steps: 1.5}\n", "8: finetune.steps: expected a whole number, got '1.5'"),
    ("text for number", GOOD + "fixed: {finetune.lr: fast}\n", "8: finetune.lr: expected a number, got 'fast'"),
    ("bool for number", GOOD + "fixed: {finetune.steps: true}\n", "8: finetune.steps: expected a whole number, got 'true'"),
    ("null", GOOD + "fixed: {finetune.steps: }\n", "8: finetune.steps: expected a whole number, got 'null'"),
    ("negative beta", GOOD + "fixed: {temporal.hard_beta: -1}\n", "8: temporal.hard_beta: expected at least 0, got '-1'"),
    ("number for bool", GOOD + "fixed: {temporal.shuffled: 3}\n", "8: temporal.shuffled: expected true or false, got '3'"),
    ("infinite", GOOD + "fixed: {finetune.lr: .inf}\n", "8: finetune.lr: expected a finite number, got 'inf'"),
    ("too small", GOOD + "fixed: {finetune.steps: 0}\n", "8: finetune.steps: expected at least 1, got '0'"),
    ("not positive", GOOD + "fixed: {finetune.lr: 0}\n", "8: finetune.lr: expected more than 0, got '0'"),
    ("too large", GOOD + "fixed: {labels.fraction: 10}\n", "8: labels.fraction: expected at most 1, got '10'"),
    ("not below", GOOD + "fixed: {split.test_fraction: 1}\n", "8: split.test_fraction: expected less than 1, got '1'"),
    ("no multiple", GOOD + "fixed: {image.size: 100}\n", "8: image.size: expected a multiple of 16, got '100'"),
    ("choice", GOOD.replace("polarity: positive", "polarity: positve"), f"5: temporal.polarity: expected {POLARITIES}, got 'positve'; did you mean 'positive'?"),
    ("only choice", GOOD + "fixed: {decoder.regions: grid9}\n", "8: decoder.regions: expected 'grid13', got 'grid9'; did you mean 'grid13'?"),
    ("variant", GOOD + "fixed: {encoder.variant: G}\n", "8: encoder.variant: expected one of clip, GR, GDminus, GD, got 'G'; did you mean 'GR'?"),
    ("one bin", GOOD + "fixed: {encoder.parts: 1}\n", "8: encoder.parts: expected at least 2, got '1'"),
    ("second of a list", GOOD.replace("[0]", "[0,\n    -1]"), "8: seed: expected at least 0, got '-1'"),
    ("empty list", GOOD.replace("[0]", "[]"), "7: seed: expected at least one value, got an empty list"),
    ("list in fixed", GOOD + "fixed: {finetune.steps: [1, 2]}\n", "8: finetune.steps: got a list; lists that make cells belong under 'grid' or in a row"),
    ("name for list", GOOD + "fixed: {speckle.classes: cortex}\n", "8: speckle.classes: expected a list of names, got 'cortex'"),
    ("doubled key", GOOD + "grid:\n", "8: grid: given twice; the first is on line 6"),
    ("doubled setting", GOOD + "fixed:\n  labels: {draw: 1}\n  labels.draw: 2\n", "10: labels.draw: given twice; the first is on line 9"),
    ("row and grid", GOOD.replace("seed: [0]", "contrast.loss: [infonce]"), "5: contrast.loss: row 1 and the grid both set it; keep one"),
    ("data in grid", GOOD.replace("seed: [0]", "data: [a, b]"), "7: data: a sweep has one dataset; give it as 'data:' at the top of the file, or by --data"),
    ("data in fixed", GOOD + "fixed: {data: a}\n", "8: data: a sweep has one dataset; give it as 'data:' at the top of the file, or by --data"),
    ("no name", GOOD.replace("name: small\n", ""), "1: name: missing; every sweep has a name"),
    ("bad name", GOOD.replace("small", "a/b"), "1: name: expected letters, digits, '-', '_' and '.', got 'a/b'"),
    ("empty name", GOOD.replace("small", ""), "1: name: expected text, got 'null'"),
    ("no recipe", GOOD.replace("recipe: demo\n", ""), "1: recipe: missing; one of demo, paper, small, or a recipe file of your own"),
    ("unknown recipe", GOOD.replace("demo", "dmeo"), "2: recipe: unknown recipe 'dmeo'; did you mean 'demo'?"),
    ("no data", GOOD.replace("data: phantom\n", ""), "1: data: missing; 'phantom', or a dataset made by uscl data import"),
    ("grid no mapping", GOOD.replace("\n  seed: [0]", " 3"), "6: grid: expected a group of settings, got '3'"),
    ("rows no list", GOOD.replace("  - {", "  {"), "4: rows: expected a list of rows, each '- {setting: value, ...}'"),
    ("row no mapping", GOOD.replace("- {contrast.loss: infonce, temporal.polarity: positive}", "- infonce"), "5: rows: expected '{setting: value, ...}', got 'infonce'"),
    ("label no text", GOOD.replace("- {", "- {label: 3, "), "5: rows.label: expected text, got '3'"),
    ("whole file a list", "- a\n", "1: expected 'key: value' lines, got '[a]'"),
    ("empty file", "", "1: recipe: missing; one of demo, paper, small, or a recipe file of your own"),
    ("no YAML", GOOD + "fixed: {\n", "9: not valid YAML: expected the node content, but found '<stream end>'"),
    ("two documents", GOOD + "---\na: 1\n", "8: not valid YAML: but found another document"),
    ("tag", GOOD + "fixed: !!python/dict {a: 1}\n", "8: the tag 'tag:yaml.org,2002:python/dict' is not supported"),
    ("scalar tag", GOOD + "fixed: {finetune.steps: !!int many}\n", "8: 'many' cannot be read as the YAML tag 'tag:yaml.org,2002:int'"),
    ("key no name", GOOD + "? [a]\n: 3\n", "8: expected a name before the ':', got a list or a group"),
    ("alias of itself", GOOD + "fixed: &a [*a]\n", "8: nested too deeply, or an alias (*name) that holds itself"),
    ("too many cells", GOOD.replace("[0]", str(list(range(10_001)))), "6: grid: makes 10001 cells; at most 10000 fit in one sweep"),
    ("workers", GOOD + "resources: {workers: 1.5}\n", "8: resources.workers: expected a whole number or null, got '1.5'"),
    ("no workers", GOOD + "resources: {workers: 0}\n", "8: resources.workers: expected at least 1, got '0'"),
    ("resource", GOOD + "resources: {gpus: 1}\n", "8: resources.gpus: unknown key; did you mean 'resources.gpus_per_trial'?"),
    ("phantom", GOOD + "phantom: {patients: many}\n", "8: phantom.patients: expected a whole number, got 'many'"),
    ("report row", GOOD + "report: {rows: [contrast.los]}\n", "8: report.rows: 'contrast.los' is no setting; did you mean 'contrast.loss'?"),
    ("report column", GOOD + "report: {columns: fraction}\n", "8: report.columns: 'fraction' is no setting; did you mean 'labels.fraction'?"),
    ("report value", GOOD + "report: {values: [dsc]}\n", "8: report.values: 'dsc' is no measurement; expected val/... or test/..., as in test/dsc; did you mean 'test/dsc'?"),
    ("report value, nearly", GOOD + "report: {values: [test/dcs]}\n", "8: report.values: 'test/dcs' is no measurement; expected val/... or test/..., as in test/dsc; did you mean 'test/dsc'?"),
    ("report value of nothing", GOOD + "report: {values: [val/embedding]}\n", "8: report.values: 'val/embedding' is no measurement; expected val/... or test/..., as in test/dsc; did you mean 'val/embedding/compactness'?"),
    ("mapping for number", GOOD + "fixed: {temporal.window: {a: 1}}\n", "8: temporal.window: expected a number, got a mapping"),
    ("mapping in a list", GOOD.replace("[0]", "[0, {a: 1}]"), "7: seed: expected a whole number, got a mapping"),
    ("nested mapping", GOOD + "fixed: {temporal: {window: {a: 1}}}\n", "8: temporal.window: expected a number, got a mapping"),
]  # fmt: skip

# Right one by one, impossible together.
IMPOSSIBLE = [
    ("two rows of one label", GOOD.replace("rows:\n", "rows:\n  - {label: a, method: supervised}\n  - {label: a, method: nnunet2d}\n"), "6: rows.label: 'a' is another row's label already; give each row its own"),
    ("supervised", GOOD + "fixed: {method: supervised}\n", "5: temporal.polarity: 'positive' pairs frames by time, but method: supervised never pretrains on clips; set temporal.polarity: none"),
    ("simclr", GOOD + "fixed: {contrast.form: simclr}\n", "8: contrast.form: simclr takes exactly one positive per anchor, temporal.polarity: positive gives several; use per_pair_neg_only or supcon_out"),
    ("two frames", GOOD.replace("polarity: positive", "polarity: positive_negative") + "fixed: {decoder.frames: 2}\n", "8: decoder.frames: temporal.polarity: positive_negative needs at least 3 frames of a clip, got '2'"),
    ("one frame", GOOD + "fixed: {encoder.frames: 1}\n", "8: encoder.frames: temporal.polarity: positive needs at least 2 frames of a clip, got '1'"),
    ("window under a frame", GOOD + "fixed: {temporal.window: 0.5}\n", "8: temporal.window: 0.5 frames hold no other frame; expected at least 1"),
    ("window over the clip", GOOD + "fixed: {temporal.window: 5, temporal.unit: fraction}\n", "8: temporal.window: 5 is a fraction of a clip's length; expected less than 1"),
    ("hard pairwise", GOOD.replace("infonce", "pairwise") + "fixed: {temporal.hard_beta: 1}\n", "8: temporal.hard_beta: 1 weights the negatives of an InfoNCE denominator, and contrast.loss: pairwise has none; use contrast.loss: infonce or temporal.hard_beta: 0"),
    ("curriculum of nothing", GOOD + "fixed: {temporal.curriculum: steps}\n", "8: temporal.curriculum: 'steps' moves the distance of far negatives, and temporal.polarity: positive has none; use temporal.polarity: negative or positive_negative with temporal.negatives: intra or all"),
    ("curriculum across clips", GOOD.replace("polarity: positive", "polarity: negative") + "fixed: {temporal.curriculum: cosine, temporal.negatives: cross}\n", "8: temporal.curriculum: 'cosine' moves the distance of far negatives, and temporal.negatives: cross has none; use temporal.polarity: negative or positive_negative with temporal.negatives: intra or all"),
    ("pixpro negatives", GOOD.replace("infonce", "pixpro").replace("polarity: positive", "polarity: negative"), "5: temporal.polarity: 'negative' makes far frames negatives, and contrast.loss: pixpro has no negatives; use positive or none"),
    ("pixpro both", GOOD.replace("infonce", "pixpro").replace("polarity: positive", "polarity: positive_negative"), "5: temporal.polarity: 'positive_negative' makes far frames negatives, and contrast.loss: pixpro has no negatives; use positive or none"),
    ("pixels at random", GOOD + "fixed: {method: pixel_supcon}\n", "5: temporal.polarity: 'positive' pairs frames by time, but method: pixel_supcon with pixel.start: random reads no clip; set temporal.polarity: none, or pixel.start: encoder"),
    ("pixels in both", GOOD + "fixed: {method: pixel_supcon, pixel.start: encoder, temporal.stage: both}\n", "8: temporal.stage: 'both' pairs frames in the decoder stage, where method: pixel_supcon contrasts labelled pixels; set temporal.stage: encoder"),
    ("pixels in the decoder", GOOD + "fixed: {method: pixel_supcon, pixel.start: encoder, temporal.stage: decoder}\n", "8: temporal.stage: 'decoder' pairs frames in the decoder stage, where method: pixel_supcon contrasts labelled pixels; set temporal.stage: encoder"),
    ("pixpro soft", GOOD.replace("infonce", "pixpro") + "fixed: {temporal.soft: true}\n", "8: temporal.soft: true weights near frames, and contrast.loss: pixpro weights no pair; set false"),
    ("pixpro variant", GOOD.replace("infonce", "pixpro").replace("polarity: positive", "polarity: none") + "fixed: {encoder.variant: GD}\n", "8: encoder.variant: G^D pairs whole frames or regions, contrast.loss: pixpro pairs pixels; use clip"),
    ("power under one", GOOD + "fixed: {contrast.pixpro_power: 0.5}\n", "8: contrast.pixpro_power: expected at least 1, got '0.5'"),
    ("one pixel", GOOD + "fixed: {pixel.per_class: 1}\n", "8: pixel.per_class: expected at least 2, got '1'"),
    ("level", GOOD + "fixed: {decoder.level: 4}\n", "8: decoder.level: 4 is beyond tiny, which has 3 decoder blocks at image.size 64; choose 1 to 3"),
    ("stride", GOOD + "fixed: {network.preset: chaitanya, image.size: 48}\n", "8: image.size: 48 is not a multiple of 32, the stride of chaitanya; try 64"),
    ("G^D by time", GOOD + "fixed: {encoder.variant: GD}\n", "8: encoder.variant: G^D with a temporal polarity (positive): it has pairs of its own; set temporal.polarity: none, temporal.stage: decoder, or encoder.variant: clip"),
    ("L^R by time", GOOD.replace("positive}", "positive, temporal.stage: decoder, decoder.variant: LR}"), "5: decoder.variant: L^R with a temporal polarity (positive): it has pairs of its own; set temporal.polarity: none, temporal.stage: encoder, or decoder.variant: clip"),
    ("G^R in the grid", GOOD + "  encoder.variant: [clip, GR]\n", "8: encoder.variant: G^R with a temporal polarity (positive): it has pairs of its own; set temporal.polarity: none, temporal.stage: decoder, or encoder.variant: clip"),
    ("G^D- and its form", GOOD.replace("polarity: positive", "polarity: none") + "fixed: {encoder.variant: GDminus, contrast.form: supcon_out}\n", "8: contrast.form: G^D- (encoder.variant: GDminus) has one positive in each denominator, got 'supcon_out'; use per_pair_neg_only, or encoder.variant: clip"),
    ("L^D and its form", GOOD.replace("polarity: positive", "polarity: none") + "fixed: {decoder.variant: LD, contrast.form: simclr}\n", "8: contrast.form: L^D (decoder.variant: LD) has one positive in each denominator, got 'simclr'; use per_pair_neg_only, or decoder.variant: clip"),
    ("L^D on two clips", GOOD.replace("polarity: positive", "polarity: none") + "fixed: {decoder.variant: LD, decoder.clips: 2}\n", "8: decoder.clips: L^D has positives in two other clips; expected at least 3, got '2'"),
    ("L^D against itself", GOOD.replace("polarity: positive", "polarity: none") + "fixed: {decoder.variant: LD, decoder.cross_clip_negative: true}\n", "8: decoder.cross_clip_negative: true repels regions of other clips that L^D attracts; set it to false, or decoder.variant: LR"),
    ("grey levels below 0", GOOD + "fixed: {encoder.augment: chaitanya, image.norm: zscore}\n", "8: encoder.augment: chaitanya cuts grey levels to [0, 1.5]; image.norm: zscore has half of them below 0, use minmax or none"),
    ("background Dice", GOOD + "fixed: {finetune.loss: dice_background}\n", "8: finetune.loss: dice_background needs a background of its own; set network.heads: softmax, or use dice"),
    ("defect of one frame", GOOD + "fixed: {finetune.augment: chaitanya, finetune.faithful_bugs: true, finetune.batch: 1}\n", "8: finetune.faithful_bugs: deforms a last part of the batch only, which one frame has not; set false"),
    ("split", GOOD + "fixed: {split.validation_fraction: 0.5, split.test_fraction: 0.5}\n", "8: split.test_fraction: with split.validation_fraction leaves no patient to train on; their sum must be below 1"),
    ("kl of histograms", GOOD + "fixed: {speckle: {weight: 0.1, model: histogram, form: kl}}\n", "8: speckle.form: 'kl' compares parameters, and speckle.model: histogram has none; leave the form out"),
    ("eq. 5 of rayleigh", GOOD + "fixed: {speckle: {weight: 0.1, model: rayleigh, form: literal}}\n", "8: speckle.form: 'literal' is not defined for speckle.model: rayleigh; choose one of euclidean, log, kl, jeffreys"),
    ("no dynamic range", GOOD + "fixed: {speckle: {weight: 0.1, domain: decompressed}}\n", "8: speckle.domain: decompressed needs speckle.dynamic_range_db, the decibels between black and white of these images"),
    ("patch too small", GOOD + "fixed: {speckle: {weight: 0.1, region: patch, patch_px: 7}}\n", "8: speckle.patch_px: a patch of 7 x 7 px never holds speckle.min_pixels 64; set a larger patch or a smaller min_pixels"),
    ("patch too large", GOOD + "fixed: {speckle: {weight: 0.1, region: patch, patch_px: 65}}\n", "8: speckle.patch_px: 65 is larger than image.size 64"),
    ("nobody to permute with", GOOD + "fixed: {speckle: {weight: 0.1, permuted: true}, finetune.batch: 1}\n", "8: finetune.batch: speckle.permuted takes the speckle of another case of the batch; expected at least 2"),
    ("dynamic range", GOOD + "fixed: {speckle.dynamic_range_db: 200}\n", "8: speckle.dynamic_range_db: expected at most 120, got '200'"),
]  # fmt: skip


def test_a_speckle_term_of_weight_0_reads_nothing(tmp_path: Path):
    off = "fixed: {speckle: {model: histogram, form: kl, domain: decompressed, region: patch, patch_px: 2}}\n"
    assert load_text(tmp_path, GOOD + off).cells()[0].spec.speckle.form == "kl"


@pytest.mark.parametrize(
    ("text", "message"), [case[1:] for case in BAD_FILES + IMPOSSIBLE], ids=[c[0] for c in BAD_FILES + IMPOSSIBLE]
)
def test_a_bad_file_gives_one_clear_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'x.yaml'}:{message}"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("temporal.windw=3", "unknown key; did you mean 'temporal.window'?"),
        ("finetune.steps=1.5", "expected a whole number, got '1.5'"),
        ("finetune.steps=", "expected a whole number, got 'null'"),
        ("finetune.steps", "expected NAME=VALUE, as in --set temporal.window=3"),
        ("=3", "expected NAME=VALUE, as in --set temporal.window=3"),
        ("seed=[1", "the value is not valid YAML"),
        ("seed=[]", "expected at least one value, got an empty list"),
        ("data=x", "a sweep has one dataset; give it as 'data:' at the top of the file, or by --data"),
        ("resources.workers=none", "expected a whole number or null, got 'none'"),
        ("phantom.size=30", "expected a multiple of 16, got '30'"),
        ("decoder.level=9", "expected at most 7, got '9'"),
        ("temporal.window={a: 1}", "expected a number, got a mapping"),
        ("temporal.window={}", "expected a number, got a mapping"),
        ("report.row=[seed]", "unknown key; did you mean 'report.rows'?"),
        ("report.rows=[contrast.los]", "'contrast.los' is no setting; did you mean 'contrast.loss'?"),
        ("report.rows=seed", "expected a list of names, got 'seed'"),
        ("report.columns=label", "'label' is no setting; did you mean 'labels.fraction'?"),
        (
            "report.values=[test/dcs]",
            "'test/dcs' is no measurement; expected val/... or test/..., as in test/dsc; did you mean 'test/dsc'?",
        ),
        ("decoder.level=6", "6 is beyond tiny, which has 3 decoder blocks at image.size 64; choose 1 to 3"),
        (
            "encoder.variant=GD",
            "G^D with a temporal polarity (positive): it has pairs of its own; set temporal.polarity: none,"
            " temporal.stage: decoder, or encoder.variant: clip",
        ),
        ("method=supervised", None),
    ],
)
def test_a_bad_set_argument_is_named(tmp_path: Path, argument: str, message: str | None):
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, GOOD, sets=(argument,))
    if message is None:  # the row's polarity is what has to change
        assert str(caught.value).startswith(f"{tmp_path / 'x.yaml'}:5: temporal.polarity: 'positive' pairs frames")
    else:
        assert str(caught.value) == f"--set {argument}: {message}"


def test_the_real_nnunet_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One line before anything is trained; the package itself is not imported to find out."""
    text = GOOD.replace("temporal.polarity: positive", "temporal.polarity: none") + "fixed: {method: nnunetv2}\n"
    monkeypatch.setattr("uscl.spec.combinations.find_spec", lambda name: object())
    load_text(tmp_path, text)
    monkeypatch.setattr("uscl.spec.combinations.find_spec", lambda name: None)
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, text)
    wanted = "8: method: nnunetv2 needs the real package: pip install 'uscl[nnunet]'"
    assert str(caught.value) == f"{tmp_path / 'x.yaml'}:{wanted}"
    load_text(tmp_path, text.replace("nnunetv2", "supervised"))


def test_bad_options_are_named(tmp_path: Path):
    with pytest.raises(SpecError, match=r"^--recipe papr: unknown recipe 'papr'; did you mean 'paper'\?$"):
        load_text(tmp_path, GOOD, recipe="papr")
    with pytest.raises(SpecError, match=r"^--name: expected letters, digits, '-', '_' and '.', got 'a b'$"):
        load_text(tmp_path, GOOD, name="a b")


def test_a_file_that_cannot_be_read(tmp_path: Path):
    missing = tmp_path / "none.yaml"
    with pytest.raises(SpecError) as caught:
        load_sweep(missing)
    assert str(caught.value) == f"{missing}: cannot be read: no such file or directory"
    with pytest.raises(SpecError) as caught:
        load_sweep(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: is a directory"
    missing.write_bytes(b"name: \xff\xfe")
    with pytest.raises(SpecError) as caught:
        load_sweep(missing)
    assert str(caught.value) == f"{missing}: is not a text file in UTF-8"


def test_an_incomplete_recipe_names_what_it_lacks(tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "settings: {image.size: 64, network.preset: tiny, encoder: {steps: 1, lr: 1, clips: 2, frames: 4}}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_text(tmp_path, GOOD, recipe=str(recipe))
    assert str(caught.value) == (
        f"{recipe}: lacks decoder.steps, decoder.lr, decoder.clips, decoder.frames, decoder.level, finetune.steps,"
        " finetune.lr, finetune.batch; a recipe gives every setting that has no default"
    )


def test_what_pixpro_and_pixel_contrast_do_not_read_is_not_refused(tmp_path: Path):
    """Pixels need no grid of regions, an encoder below labelled pixels takes temporal pairs, and none reads level 7."""
    small = "fixed: {decoder.level: 1, image.size: 32, decoder.patch: 3}\n"  # a map of 4 x 4: too small for 13 regions
    load_text(tmp_path, GOOD.replace("infonce", "pixpro") + small).cells()
    with pytest.raises(SpecError, match=r"decoder\.regions: grid13"):
        load_text(tmp_path, GOOD + small).cells()
    pixels = "fixed: {method: pixel_supcon, pixel.start: encoder, temporal.stage: encoder, decoder.level: 7}\n"
    load_text(tmp_path, GOOD + pixels).cells()
