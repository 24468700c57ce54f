"""Reads what a commit says: the desired file and the files beside it that may be templates, as git has them."""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Final

from reconciler.adapters.template_files import (
    EXECUTABLE,
    FILE_LIMIT,
    KEPT,
    LINK,
    MAX_DEPTH,
    MAX_FILES,
    SUBMODULE,
    TEMPLATES,
    irregular,
    mentioned,
    missing,
    too_long,
    too_many,
)
from reconciler.model.base import noun
from reconciler.model.bundle import REGULAR, Bundle, BundleFile
from reconciler.model.problem import ExitCode, ReconcilerError
from reconciler.model.source import shown

from .objects import FOLDER, Entry, Objects
from .repository import Repository
from .running import Git

_KINDS: Final = {LINK: "a link", SUBMODULE: "a submodule", FOLDER: "a folder"}
_LFS: Final = b"version https://git-lfs.github.com/spec/"


@noun
class Listing:
    """Which files a commit has, without their content."""

    commit: str
    desired: Entry
    files: Mapping[str, Entry]
    """Files below the folder of the desired file that may be referenced, by relative path."""


class Reading:
    """One commit, while it is read."""

    def __init__(self, objects: Objects, repository: Repository, name: str, commit: str) -> None:
        self._objects = objects
        self._commit = commit
        self._file = f"{name} at {shown(commit)}"
        """The desired file, as messages call it."""
        self._name = name
        *folders, self._last = repository.path.split("/")
        self._at = f"{shown(commit)}:{'/'.join(folders)}".rstrip("/")
        self._trees: dict[str, Mapping[bytes, Entry]] = {}
        self._folder = self._folder_of(folders)
        self.desired = self._desired()
        self.text = objects.content(self.desired.name, "blob", FILE_LIMIT + 1)
        if self.text.startswith(_LFS):
            raise self._refused("desired-file-lfs", "a pointer of Git LFS, not the text", "keep it out of LFS")

    def listing(self) -> Listing:
        """Which files may be templates. Raises ReconcilerError."""
        names: dict[str, Entry] = {}
        for path, entry in self._candidates():
            names[path] = entry
            if len(names) > MAX_FILES:
                raise too_many(f"{self._at}/{TEMPLATES}")
        return Listing(commit=self._commit, desired=self.desired, files=names)

    def files(self, listing: Listing) -> Mapping[str, BundleFile]:
        """Their content. Raises ReconcilerError."""
        return {path: self._file_of(path, entry) for path, entry in listing.files.items()}

    # ------------------------------------------------------------------------------------------- the desired file

    def _folder_of(self, parts: list[str]) -> str:
        """The tree in which the desired file is."""
        tree = self._objects.tree_of(self._commit)
        for count, part in enumerate(parts, 1):
            entry = self._named(tree, part)
            if entry is None:
                raise missing(self._name, f" at {shown(self._commit)}")
            if entry.mode != FOLDER:
                raise irregular(f"{shown(self._commit)}:{'/'.join(parts[:count])}", self._kind(entry))
            tree = entry.name
        return tree

    def _desired(self) -> Entry:
        entry = self._named(self._folder, self._last)
        if entry is None:
            raise missing(self._name, f" at {shown(self._commit)}")
        if entry.mode not in (REGULAR, EXECUTABLE):
            raise irregular(self._file, self._kind(entry))
        return entry

    def _kind(self, entry: Entry) -> str:
        return _KINDS.get(entry.mode, f"of mode {entry.mode:o}")

    def _refused(self, reference: str, what: str, hint: str) -> ReconcilerError:
        return ReconcilerError(reference, f"{self._file} is {what}; {KEPT}", hint=hint, code=ExitCode.INVALID)

    # ------------------------------------------------------------------------------------------------- templates

    def _candidates(self) -> Iterator[tuple[str, Entry]]:
        templates = self._named(self._folder, TEMPLATES)
        if templates is not None and templates.mode == FOLDER:
            yield from self._below(templates.name, TEMPLATES, 1)
        for path in sorted(mentioned(self.text)):
            entry = self._found(path)
            if entry is not None and entry.mode != FOLDER:
                yield path, entry

    def _below(self, tree: str, path: str, depth: int) -> Iterator[tuple[str, Entry]]:
        for name, entry in sorted(self._tree(tree).items()):
            inner = f"{path}/{os.fsdecode(name)}"
            if entry.mode != FOLDER:
                yield inner, entry
            elif depth < MAX_DEPTH:
                yield from self._below(entry.name, inner, depth + 1)

    def _found(self, path: str) -> Entry | None:
        """What is at a path; a link or a submodule on the way is what it leads to, as nothing behind it is stored."""
        entry: Entry | None = Entry(mode=FOLDER, name=self._folder)
        for part in path.split("/"):
            if entry is None or entry.mode in (LINK, SUBMODULE):
                return entry
            entry = self._named(entry.name, part) if entry.mode == FOLDER else None
        return entry

    def _file_of(self, path: str, entry: Entry) -> BundleFile:
        if entry.mode == SUBMODULE:
            return BundleFile(mode=SUBMODULE, content=b"")
        content = self._objects.content(entry.name, "blob", FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise too_long(f"{self._at}/{path}")
        return BundleFile(mode=entry.mode, content=content)

    # ----------------------------------------------------------------------------------------------------- trees

    def _tree(self, name: str) -> Mapping[bytes, Entry]:
        if name not in self._trees:
            self._trees[name] = self._objects.tree(name)
        return self._trees[name]

    def _named(self, tree: str, name: str) -> Entry | None:
        """By its bytes, or as a Mac stores it: its file system says ü in two characters, git in one."""
        entries = self._tree(tree)
        composed = unicodedata.normalize("NFC", name)
        return entries.get(os.fsencode(name)) or entries.get(os.fsencode(composed))


def read(git: Git, repository: Repository, name: str, commit: str) -> tuple[Bundle, Listing]:
    """All of one commit, and which files it has. Raises ReconcilerError when it cannot be read whole."""
    with Objects(git) as objects:
        reading = Reading(objects, repository, name, commit)
        listing = reading.listing()
        files = reading.files(listing)
    return Bundle(name=name, revision=commit, text=reading.text, files=files, tracked=True), listing
