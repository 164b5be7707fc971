#!/bin/sh
# Back up Keyturn's database while the service runs.
#
#   backup.sh FOLDER                          PostgreSQL, with libpq's own variables: PGHOST, PGUSER, PGDATABASE,
#                                             PGPASSFILE ... (`ps` would show a URL with a password)
#   backup.sh FOLDER /data/keyturn.sqlite3    SQLite
#
# It prints the file's name once the file is complete and was read back; an incomplete file never has that name. The
# file has password hashes and sealed secrets, so only its owner may read it. It does not have the master secret. Do
# not keep that in the same place, because with both anybody can open all second factors. To restore, follow
# docs/guides/back-up-and-restore.md, and always run restore-guard.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: backup.sh FOLDER [SQLITE-FILE]" >&2
  exit 2
fi
folder=$1
sqlite=${2:-}
name=keyturn-$(date -u +%Y%m%dT%H%M%SZ)

if [ -e "$folder/master-secret" ] || [ -e "$folder/master-secrets" ]; then
  echo "backup.sh: $folder has the master secret. Write backups to another folder." >&2
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
  # A snapshot by SQLite itself: a copy of the file would lack the content of the write-ahead log, or have only half
  # of it.
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
