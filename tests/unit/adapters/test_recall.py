"""What is remembered of files between looks, at everything and at a part."""

from reconciler.adapters.cache.model_folder import FoundFile, Recall

ONE, TWO, THREE = (FoundFile(f"/hub/{n}", (1, n, 10, 5)) for n in (1, 2, 3))


class Reader:
    """Notes what is read."""

    def __init__(self, recall: Recall) -> None:
        self._recall = recall
        self.read: list[str] = []

    def look(self, *files: FoundFile) -> list[str]:
        """What had to be read to see these."""
        self.read = []
        for file in files:
            self._recall("config", file, self._read)
        return self.read

    def _read(self, file: FoundFile) -> str:
        self.read.append(file.path)
        return file.path


def test_what_one_look_at_everything_did_not_use_is_forgotten() -> None:
    recall = Recall()
    reader = Reader(recall)
    assert reader.look(ONE, TWO) == ["/hub/1", "/hub/2"]
    recall.turn()
    assert reader.look(ONE) == []
    recall.turn()
    assert reader.look(ONE, TWO) == ["/hub/2"]


def test_a_look_at_a_part_forgets_nothing() -> None:
    """Also nothing that was used after the last look at everything, as storage is: it was read again each time."""
    recall = Recall()
    reader = Reader(recall)
    reader.look(ONE, TWO)
    recall.turn()
    assert reader.look(THREE) == ["/hub/3"]
    for _ in range(2):
        assert reader.look(ONE) == []
        recall.keep()
    assert reader.look(ONE, TWO) == []
    recall.turn()
    assert reader.look(THREE) == []
