#!/bin/sh
# A backup of Keyturn's database, while it serves.
#
#   backup.sh FOLDER                          PostgreSQL, by libpq's own variables: PGHOST, PGUSER, PGDATABASE,
#                                             PGPASSFILE ... (a URL with a password in it would be read in `ps`)
#   backup.sh FOLDER /data/keyturn.sqlite3    SQLite
#
# It prints the file's name once it is whole and was read back; what is half done never has that name. In it are
# password hashes and sealed secrets: only its owner may read it. The master secret is not in it and must not be beside
# it, for with both anybody's second factor opens. To restore: docs/guides/back-up-and-restore.md, and never
# without restore-guard.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: backup.sh FOLDER [SQLITE-FILE]" >&2
  exit 2
fi
folder=$1
sqlite=${2:-}
name=keyturn-$(date -u +%Y%m%dT%H%M%SZ)

if [ -e "$folder/master-secret" ] || [ -e "$folder/master-secrets" ]; then
  echo "backup.sh: $folder has the master secret. A backup belongs elsewhere." >&2
  exit 1
fi

draft=$(mktemp "$folder/.$name.XXXXXX")  # with mode 600, which it keeps
trap 'rm -f "$draft"' EXIT

if [ -z "$sqlite" ]; then
  whole=$folder/$name.dump
  pg_dump --format=custom --no-owner --no-privileges --file="$draft"
  pg_restore --list "$draft" > /dev/null
else
  whole=$folder/$name.sqlite3
  # A snapshot by SQLite itself: a copy of the file would lack what is in the write-ahead log, or have half of it.
  python3 - "$sqlite" "$draft" << 'END'
import pathlib, sqlite3, sys

source = sqlite3.connect(pathlib.Path(sys.argv[1]).absolute().as_uri() + "?mode=ro", uri=True, timeout=60)
source.execute("VACUUM INTO ?", (sys.argv[2],))
(verdict,) = sqlite3.connect(sys.argv[2]).execute("PRAGMA integrity_check").fetchone()
sys.exit(None if verdict == "ok" else f"backup.sh: the copy is broken: {verdict}")
END
fi

sync "$draft"
mv "$draft" "$whole"
trap - EXIT
echo "$whole"
