"""What users point at: files, folders, globs, archives, lists, tables in memory and streams, as rows."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crystalssl.exceptions import DatasetError, NotACrystalError
from crystalssl.graphs._manifest import is_corpus
from crystalssl.graphs._storage import is_stored
from crystalssl.io._archives import is_archive, unpacked
from crystalssl.io._formats import format_of
from crystalssl.io._frames import is_frame, read_frame
from crystalssl.io._records import Records, is_crystal
from crystalssl.io._rows import Problem, Row, Unknown, Wanted
from crystalssl.io._single import read_cif_blocks, read_single
from crystalssl.io._source_file import SourceFile, id_of

__all__ = ["Origin", "files_below", "is_path", "opened"]

Rows = Iterator["Row | Problem"]

_BESIDE = ("atom_init.json", "id_prop.csv")  # of CGCNN; they hold no crystals
_HIDDEN = (".", "__MACOSX", "Thumbs.db", "desktop.ini")


class Origin(NamedTuple):
    """A source that is open: its rows, and the folder that a table of targets is looked for in."""

    label: str
    rows: Callable[[Wanted, Listed | None], Rows]
    folder: Path | None = None
    total: int | None = None


class Listed(NamedTuple):
    """A table of targets beside the crystals: its place, and whether it lists a file by one of its names."""

    path: Path
    has: Callable[[Iterable[str]], bool]


@contextlib.contextmanager
def opened(source: Any) -> Iterator[Origin]:
    """Open whatever crystals come in."""
    if hasattr(source, "to_frame"):  # a Series
        source = source.to_frame()
    if is_frame(source):
        frame = source.collect() if hasattr(source, "collect") else source  # of polars, if it is lazy
        yield Origin(
            "the DataFrame", lambda wanted, _: _guarded(None, lambda: read_frame(frame, wanted)), None, len(frame)
        )
    elif isinstance(source, str) and "\n" in source:
        yield Origin("the text", lambda wanted, _: _in_memory([source], wanted))
    elif isinstance(source, (str, os.PathLike)):
        with _path(os.fsdecode(source)) as origin:
            yield origin
    elif hasattr(source, "read"):
        with tempfile.TemporaryDirectory(prefix="crystalssl-") as folder:
            path = Path(folder, "stream")
            with path.open("xb") as file:
                content = getattr(source, "buffer", source)  # of a text file, the bytes
                shutil.copyfileobj(content, file, 2**20)
            label = str(getattr(source, "name", "the stream"))
            with _file(SourceFile(path, label, "stream", Path.cwd())) as origin:
                yield origin
    elif isinstance(source, (Mapping, bytes, bytearray)) or is_crystal(source):
        raise NotACrystalError(f"the source is a single {type(source).__name__}; wrap it in a list: [source]")
    elif hasattr(source, "to_batches"):  # a table or data set of Arrow
        yield Origin("the table", lambda wanted, listed: _in_memory(_records_of(source, wanted), wanted, listed))
    elif isinstance(source, Iterable):
        total = len(source) if hasattr(source, "__len__") else None  # type: ignore[arg-type]
        top = _folder_of_all(source) if isinstance(source, Sequence) else None
        yield Origin("the list", lambda wanted, listed: _in_memory(source, wanted, listed, top), Path.cwd(), total)
    else:
        raise NotACrystalError(
            f"{type(source).__name__} is no source of crystals; pass a path, a glob, a DataFrame, or a list of paths, "
            "crystals or records"
        )


@contextlib.contextmanager
def _path(name: str) -> Iterator[Origin]:
    if not name.strip():
        raise DatasetError("The source is an empty path.")
    path = Path(name).expanduser()
    if os.path.isdir(path):
        if is_corpus(path) or is_stored(path):
            raise DatasetError(
                f"{name} holds graphs that were made before, not crystals to read; estimators take its path, and "
                "CrystalCorpus.load or CrystalGraphs.load open it"
            )
        yield _folder(path, name)
    elif os.path.lexists(path):
        with _file(SourceFile(path, name, id_of(path.name))) as origin:
            yield origin
    elif glob.has_magic(name):
        found = sorted(filter(os.path.isfile, glob.iglob(str(path), recursive=True)))
        if not found:
            raise DatasetError(f"There is no file {name}.")
        parts = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        top = Path(*parts)
        sources = [SourceFile(Path(one), one, id_of(os.path.relpath(one, top))) for one in found]
        yield Origin(name, lambda wanted, listed: _files(sources, wanted, listed, named=True), top, len(sources))
    else:
        raise DatasetError(f"There is no file {name}.")


@contextlib.contextmanager
def _file(source: SourceFile) -> Iterator[Origin]:
    """Open one file that the caller named. What is wrong with it as a whole is an error, whatever `on_error` says."""
    try:
        archive = is_archive(source)
        known = None if archive else format_of(source)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{source.label} cannot be read: {error}.") from error
    if not archive:
        assert known is not None

        def rows(wanted: Wanted, listed: Listed | None) -> Rows:
            return _guarded(source, lambda: known.read(source, wanted), first_is_error=True)

        yield Origin(source.label, rows, source.folder)
        return
    with unpacked(source) as (folder, problems):
        origin = _folder(folder, source.label)
        yield origin._replace(
            rows=lambda wanted, listed: itertools.chain(problems, origin.rows(wanted, listed)),
            total=None if origin.total is None else origin.total + len(problems),
        )


def files_below(folder: Path, unread: list[OSError]) -> Iterator[Path]:
    """Yield the files in a folder and those below in a fixed order, without hidden ones; `unread` gets what fails."""
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if not name.startswith(_HIDDEN))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith(_HIDDEN))


def _folder(folder: Path, label: str) -> Origin:
    sources = []
    unread: list[OSError] = []
    for path in files_below(folder, unread):
        inner = path.relative_to(folder).as_posix()
        sources.append(SourceFile(path, f"{label.rstrip('/')}/{inner}", id_of(inner)))
    if not sources and not unread:
        raise DatasetError(f"{label} holds no files.")
    problems = [Problem(None, None, str(error.filename), f"the folder cannot be read ({error})") for error in unread]
    return Origin(
        label,
        lambda wanted, listed: itertools.chain(problems, _files(sources, wanted, listed, named=False)),
        folder,
        len(sources),
    )


def _files(sources: list[SourceFile], wanted: Wanted, listed: Listed | None, named: bool) -> Rows:
    table = os.path.realpath(listed.path) if listed else None
    for source in sources:
        if os.path.realpath(source.path) == table:
            continue
        if not named and source.path.name in _BESIDE:
            continue
        yield from _guarded(source, lambda source=source: _one_of_many(source, wanted, listed), named)  # type: ignore[misc]


def _one_of_many(source: SourceFile, wanted: Wanted, listed: Listed | None) -> Rows:
    if is_archive(source):
        raise ValueError("it is an archive among other files; unpack it first, or read it by itself")
    known = format_of(source)
    if listed and known.read in (read_single, read_cif_blocks) and not listed.has(names_of(source.id, source.label)):
        raise Unknown(f"{listed.path.name} does not list it")
    yield from known.read(source, wanted)


def names_of(id: str, file: str | None) -> list[str]:
    """Return the names that a table may list a file by: its id, its name with and without its ending."""
    if file is None:
        return [id]
    name = os.path.basename(file)
    return list(dict.fromkeys([id, name, id_of(name)]))


def is_path(item: Any) -> bool:
    """Return whether an item of a list is the path of a file, and no text of one."""
    return isinstance(item, os.PathLike) or (isinstance(item, str) and "\n" not in item and item.lstrip()[:1] != "{")


def _folder_of_all(items: Sequence[Any]) -> Path | None:
    """Return the folder that ids of files are relative to, if some of them have the same name."""
    paths = [os.path.abspath(os.path.expanduser(os.fsdecode(item))) for item in items if is_path(item)]
    if len({id_of(os.path.basename(path)) for path in paths}) == len(paths):
        return None
    return Path(os.path.commonpath([os.path.dirname(path) for path in paths]))


def _in_memory(items: Iterable[Any], wanted: Wanted, listed: Listed | None = None, top: Path | None = None) -> Rows:
    """Read a list of crystals, records and paths, whose ids are their names, or what is behind the folder `top`."""
    records = Records(wanted, None)
    for number, item in enumerate(items):
        if is_path(item):
            path = Path(os.fsdecode(item)).expanduser()
            name = path.name if top is None else os.path.relpath(path.absolute(), top)
            source = SourceFile(path, os.fsdecode(item), id_of(name))
            yield from _guarded(source, lambda source=source: _one_of_many(source, wanted, listed), True)  # type: ignore[misc]
        else:
            yield records.row(item, number)


def _records_of(table: Any, wanted: Wanted) -> Iterator[Any]:
    for batch in table.to_batches():
        for start in range(0, batch.num_rows, wanted.chunk_size):
            yield from batch.slice(start, wanted.chunk_size).to_pylist()


def _guarded(
    source: SourceFile | None, rows: Callable[[], Iterator[Any]], named: bool = True, *, first_is_error: bool = False
) -> Rows:
    """Yield the rows of a file, and a problem in place of what its reader raises.

    Parameters
    ----------
    source : SourceFile or None
        The file; None for a table in memory.
    rows : callable
        Starts to read.
    named : bool, default=True
        Whether the caller named this very file, so that it is an error if it holds no crystals.
    first_is_error : bool, default=False
        Whether a file of which nothing can be read is an error at once.
    """
    n_rows = 0
    label = "the DataFrame" if source is None else source.label
    try:
        for row in rows():
            yield row
            n_rows += 1
    except ImportError:
        raise
    except FileNotFoundError as error:
        if first_is_error:
            raise DatasetError(f"There is no file {label}.") from error
        yield Problem(None, None, label, "there is no such file", cause=error)
    except Exception as error:  # readers raise whatever their format's parser raises
        reason = str(error) or type(error).__name__
        if not n_rows and (first_is_error or source is None):
            if isinstance(error, DatasetError):  # of a column that there is not
                raise
            raise DatasetError(f"{label} cannot be read: {reason}.") from error
        if n_rows:
            reason = f"it and all after it cannot be read ({reason})"
        yield Problem(
            None if source is None else source.id,
            n_rows or None,
            label,
            reason,
            named or not isinstance(error, Unknown),
            error,
        )
