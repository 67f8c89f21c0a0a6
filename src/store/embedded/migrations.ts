// The schema's history. Each entry takes a file one version up; entries are added at the end and never changed.

const VERSION_1 = `
CREATE TABLE objects (
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  object TEXT NOT NULL, -- the whole object as JSON
  PRIMARY KEY (kind, namespace, name)
) STRICT;

CREATE TABLE changes (
  resource_version INTEGER PRIMARY KEY,
  type TEXT NOT NULL,
  previous_labels TEXT, -- JSON, NULL where there were none
  object TEXT NOT NULL
) STRICT;

CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  uid TEXT NOT NULL,
  type TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  count INTEGER NOT NULL,
  first_time INTEGER NOT NULL, -- Unix milliseconds
  last_time INTEGER NOT NULL,
  UNIQUE (uid, type, reason, message)
) STRICT;
CREATE INDEX events_by_object ON events (uid, last_time);
CREATE INDEX events_by_time ON events (last_time);
`;

export const MIGRATIONS: readonly string[] = [VERSION_1];
