import pytest

from stream.errors import StoreError
from stream.health.identity import WorkerIdentity


def test_a_restart_has_the_same_id_and_a_neighbour_another(tmp_path):
    first = WorkerIdentity.acquire(tmp_path / "state")
    second = WorkerIdentity.acquire(tmp_path / "state")
    names = (first.name, second.name)
    first.close()
    first.close()
    again = WorkerIdentity.acquire(tmp_path / "state")

    assert names[0] != names[1]
    assert again.name == names[0]
    again.close()
    second.close()


def test_an_unreadable_id_is_made_anew(tmp_path):
    (tmp_path / "worker-0.id").write_bytes(b"\xff\x00 nonsense")

    identity = WorkerIdentity.acquire(tmp_path)
    name = identity.name
    identity.close()
    again = WorkerIdentity.acquire(tmp_path)

    assert name.isalnum()
    assert again.name == name
    again.close()


def test_a_folder_that_cannot_be_made_names_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="check data_dir"):
        WorkerIdentity.acquire(tmp_path / "file" / "state")
