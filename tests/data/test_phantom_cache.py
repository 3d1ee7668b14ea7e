"""The phantom in a machine's cache: built where it is missing, once, whoever comes at the same time."""

import threading
from pathlib import Path

import pytest

from uscl.data import phantom_cache
from uscl.data.dataset import open_dataset
from uscl.data.phantom import build_phantom, phantom_fingerprint
from uscl.data.phantom_cache import cached_phantom, phantom_folder
from uscl.spec.phantom import PhantomSpec
from uscl.store.s3_root import S3Root

SPEC = PhantomSpec(patients=1, clips_per_patient=1, frames_per_clip=2, labels_per_patient=1, size=32)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_it_is_where_a_store_in_a_bucket_looks_for_it(tmp_path):
    folder = cached_phantom(SPEC)
    assert folder == phantom_folder(S3Root("bucket", "runs"), phantom_fingerprint(SPEC))
    assert open_dataset(folder).index.fingerprint == phantom_fingerprint(SPEC)
    assert phantom_folder(tmp_path / "runs", "ab" * 32) == tmp_path / "runs" / "data" / "phantom-ababababab"


def test_of_several_that_want_it_one_builds(monkeypatch):
    built, gate = [], threading.Barrier(4)

    def building(spec, path, **options):
        built.append(path)
        build_phantom(spec, path, **options)

    monkeypatch.setattr(phantom_cache, "build_phantom", building)
    found: list[Path] = []

    def want():
        gate.wait()
        found.append(cached_phantom(SPEC))

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1 and set(found) == set(built) and len(found) == 4
