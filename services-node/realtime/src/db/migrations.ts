// The schema, step by step. A step that was released is never edited: add another.

/** Migration N (from 1) is at index N - 1. */
export const MIGRATIONS: readonly string[] = [
  // 1: notes, who may read them, what changed, and what has yet to be indexed.
  `
  CREATE TABLE notes (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    title      TEXT NOT NULL,
    text       TEXT NOT NULL,
    owner      TEXT NOT NULL,
    readers    TEXT NOT NULL,
    revision   INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
  ) STRICT;

  -- Owner and readers, one row each, so that a list is an index scan.
  CREATE TABLE note_access (
    subject  TEXT NOT NULL,
    note_seq INTEGER NOT NULL REFERENCES notes (seq) ON DELETE CASCADE,
    PRIMARY KEY (subject, note_seq)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX note_access_by_note ON note_access (note_seq);

  CREATE TABLE changes (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,
    note_id  TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at       TEXT NOT NULL
  ) STRICT;

  -- Who is told about a change: visible = 1 who may read the note after it,
  -- visible = 0 who could until then.
  CREATE TABLE change_audience (
    subject TEXT NOT NULL,
    seq     INTEGER NOT NULL REFERENCES changes (seq) ON DELETE CASCADE,
    visible INTEGER NOT NULL,
    PRIMARY KEY (subject, seq)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX change_audience_by_seq ON change_audience (seq);

  CREATE TABLE outbox (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    note_id         TEXT NOT NULL,
    operation       TEXT NOT NULL CHECK (operation IN ('index', 'delete')),
    revision        INTEGER NOT NULL,
    state           TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'dead')),
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0,
    last_error      TEXT,
    created_at      INTEGER NOT NULL,
    request_id      TEXT,
    traceparent     TEXT
  ) STRICT;
  CREATE INDEX outbox_by_state ON outbox (state, seq);
  CREATE INDEX outbox_by_note ON outbox (note_id, seq);
  `,
  // 2: collaborative documents: a snapshot and the updates since. unsettled = 1 while the
  // note's text has yet to follow.
  `
  CREATE TABLE collab_documents (
    note_id   TEXT PRIMARY KEY,
    snapshot  BLOB NOT NULL,
    checksum  INTEGER NOT NULL,
    unsettled INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE INDEX collab_unsettled ON collab_documents (note_id) WHERE unsettled = 1;

  CREATE TABLE collab_updates (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    note_id  TEXT NOT NULL REFERENCES collab_documents (note_id) ON DELETE CASCADE,
    payload  BLOB NOT NULL,
    checksum INTEGER NOT NULL
  ) STRICT;
  CREATE INDEX collab_updates_by_note ON collab_updates (note_id, seq);
  `,
  // 3: a copy of Python's catalogue, in pages of JSON.
  `
  CREATE TABLE catalogue_pages (
    number INTEGER PRIMARY KEY,
    films  TEXT NOT NULL
  ) STRICT;
  `,
  // 4: channels: what the gateway has yet to publish; chat rooms with what is said in them, what has yet to be reviewed
  // and answered; telemetry, whose device belongs to who sent it first, and boards that show it.
  `
  CREATE TABLE channel_emits (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    key     TEXT NOT NULL,
    data    TEXT NOT NULL
  ) STRICT;

  CREATE TABLE chat_rooms (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    owner      TEXT NOT NULL,
    private    INTEGER NOT NULL,
    created_at INTEGER NOT NULL
  ) STRICT;
  -- Where people find each other at first.
  INSERT INTO chat_rooms (name, owner, private, created_at) VALUES ('lobby', 'service:realtime', 0, 0);

  CREATE TABLE chat_members (
    subject TEXT NOT NULL,
    room_id INTEGER NOT NULL REFERENCES chat_rooms (id) ON DELETE CASCADE,
    read_to INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (subject, room_id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX chat_members_by_room ON chat_members (room_id);

  CREATE TABLE chat_messages (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    room_id   INTEGER NOT NULL REFERENCES chat_rooms (id) ON DELETE CASCADE,
    author    TEXT NOT NULL,
    text      TEXT NOT NULL,
    at        INTEGER NOT NULL,
    edited_at INTEGER,
    state     TEXT NOT NULL DEFAULT 'visible' CHECK (state IN ('visible', 'deleted', 'withdrawn')),
    review    TEXT NOT NULL CHECK (review IN ('passed', 'flagged', 'pending')),
    reply_to  INTEGER,
    answer    TEXT
  ) STRICT;
  CREATE INDEX chat_messages_by_room ON chat_messages (room_id, id);
  CREATE INDEX chat_messages_pending ON chat_messages (id) WHERE review = 'pending' AND state = 'visible';

  -- What was said with a key is said once, also after a restart.
  CREATE TABLE chat_keys (
    room_id    INTEGER NOT NULL REFERENCES chat_rooms (id) ON DELETE CASCADE,
    author     TEXT NOT NULL,
    key        TEXT NOT NULL,
    message_id INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    published  TEXT NOT NULL,
    PRIMARY KEY (room_id, author, key)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX chat_keys_by_age ON chat_keys (at);

  CREATE TABLE chat_questions (
    message_id INTEGER PRIMARY KEY REFERENCES chat_messages (id) ON DELETE CASCADE,
    attempts   INTEGER NOT NULL DEFAULT 0
  ) STRICT;

  CREATE TABLE telemetry_devices (
    device TEXT PRIMARY KEY,
    owner  TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE telemetry_points (
    device TEXT NOT NULL,
    metric TEXT NOT NULL,
    time   INTEGER NOT NULL,
    value  REAL NOT NULL,
    PRIMARY KEY (device, metric, time)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE boards (
    name    TEXT PRIMARY KEY,
    owner   TEXT NOT NULL,
    devices TEXT NOT NULL,
    season  INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
];
