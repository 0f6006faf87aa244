"""A CSV table with a header and the outcome of each video, updated while the work goes on."""

import csv
import fcntl
import io
import os
import threading

from utils import UserError, replacing

# surrogateescape preserves the bytes of file names that are not UTF-8.
TEXT = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}


class Ledger:
    """A table of rows {column: str}; the first `num_keys` columns are the key.

    `with Ledger(path, columns, num_keys) as ledger:` reads existing rows into `ledger.rows` and locks the
    file; `record` writes a row immediately and replaces an earlier one with the same key. Rows are sorted on
    exit. A killed process loses at most the row that it was writing. Raises UserError if the file is locked,
    cannot be written or has other columns.
    """

    def __init__(self, path, columns, num_keys=1):
        self.path = path
        self.columns = tuple(columns)
        self.num_keys = num_keys
        self.rows = {}  # {key, a tuple of str: row}
        self._mutex = threading.Lock()
        self._file = self._lock = None

    def __enter__(self):
        folder, name = os.path.split(os.path.abspath(self.path))
        try:
            os.makedirs(folder, exist_ok=True)
            self._lock = open(os.path.join(folder, f".{name}.lock"), "w")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error}") from None
        try:
            self._lock_file()
            self.rows = read_ledger(self.path, self.columns, self.num_keys)
            self._write()
            self._file = open(self.path, "a", **TEXT)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_):
        self._file.close()
        self._write()
        self._lock.close()

    def record(self, **row):
        """Write a row, given by all of its columns. Thread-safe."""
        row = {column: str(row[column]) for column in self.columns}
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row.values())
        with self._mutex:
            self.rows[_key(row, self.columns, self.num_keys)] = row
            self._file.write(line.getvalue())
            self._file.flush()

    def _lock_file(self):
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.path}: in use: the same command is already running") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be locked: {error}") from None

    def _write(self):
        with replacing(self.path) as temporary, open(temporary, "w", **TEXT) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self.rows[key].values() for key in sorted(self.rows))


def read_ledger(path, columns, num_keys=1):
    """The rows of a `Ledger`'s file, {key: row}, which another process may be writing; {} without a file.

    An incomplete last line, left by a killed process, is dropped. Raises UserError if the file cannot be read
    or has other columns.
    """
    try:
        with open(path, **(TEXT | {"encoding": "utf-8-sig"})) as file:
            text = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    whole = text[: text.rfind("\n") + 1] or text  # without any line's end, it is no table of ours
    try:
        lines = list(csv.reader(io.StringIO(whole, newline="")))
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as a table: {error}") from None
    if lines and tuple(lines[0]) != tuple(columns):
        found = " ".join(",".join(lines[0]).split())[:100]
        raise UserError(f"{path}: expected the columns {','.join(columns)}, found {found}")
    rows = (dict(zip(columns, line, strict=True)) for line in lines[1:] if len(line) == len(columns))
    return {_key(row, columns, num_keys): row for row in rows}


def _key(row, columns, num_keys):
    return tuple(row[column] for column in columns[:num_keys])
