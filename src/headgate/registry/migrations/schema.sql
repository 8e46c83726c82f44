-- The schema at the newest migration, for new homes. A test keeps it equal to what the migrations make.
CREATE TABLE alembic_version (
  version_num VARCHAR(32) NOT NULL, 
  CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE models (
  name VARCHAR NOT NULL, 
  created DOUBLE NOT NULL, 
  PRIMARY KEY (name)
);
CREATE TABLE versions (
  model VARCHAR NOT NULL, 
  number INTEGER NOT NULL, 
  digest VARCHAR NOT NULL, 
  source_digest VARCHAR NOT NULL, 
  created DOUBLE NOT NULL, 
  created_by VARCHAR NOT NULL, 
  note VARCHAR NOT NULL, 
  trusted_by VARCHAR, 
  PRIMARY KEY (model, number), 
  FOREIGN KEY(model) REFERENCES models (name)
);
CREATE INDEX versions_by_source ON versions (model, source_digest);
CREATE TABLE aliases (
  model VARCHAR NOT NULL, 
  alias VARCHAR NOT NULL, 
  version INTEGER NOT NULL, 
  updated DOUBLE NOT NULL, 
  PRIMARY KEY (model, alias), 
  FOREIGN KEY(model, version) REFERENCES versions (model, number)
);
CREATE TABLE alias_history (
  id INTEGER NOT NULL, 
  model VARCHAR NOT NULL, 
  alias VARCHAR NOT NULL, 
  version INTEGER, 
  updated DOUBLE NOT NULL, 
  updated_by VARCHAR NOT NULL, 
  PRIMARY KEY (id)
);
CREATE TABLE keys (
  id VARCHAR NOT NULL, 
  name VARCHAR NOT NULL, 
  sha256 VARCHAR NOT NULL, 
  prefix VARCHAR NOT NULL, 
  scopes JSON NOT NULL, 
  created DOUBLE NOT NULL, 
  revoked DOUBLE, 
  PRIMARY KEY (id), 
  UNIQUE (sha256)
);
CREATE TABLE deployments (
  name VARCHAR NOT NULL, 
  spec JSON NOT NULL, 
  generation INTEGER NOT NULL, 
  deleted BOOLEAN NOT NULL, 
  next_revision INTEGER NOT NULL, 
  created DOUBLE NOT NULL, 
  updated DOUBLE NOT NULL, 
  PRIMARY KEY (name)
);
CREATE TABLE revisions (
  name VARCHAR NOT NULL, 
  deployment VARCHAR NOT NULL, 
  number INTEGER NOT NULL, 
  version INTEGER NOT NULL, 
  digest VARCHAR NOT NULL, 
  spec JSON NOT NULL, 
  state VARCHAR NOT NULL, 
  reason VARCHAR NOT NULL, 
  created DOUBLE NOT NULL, 
  updated DOUBLE NOT NULL, 
  PRIMARY KEY (name)
);
CREATE INDEX ix_revisions_deployment ON revisions (deployment);
CREATE TABLE meta (
  "key" VARCHAR NOT NULL, 
  value VARCHAR NOT NULL, 
  PRIMARY KEY ("key")
);
CREATE TABLE rollouts (
  deployment VARCHAR NOT NULL, 
  number INTEGER NOT NULL, 
  state VARCHAR NOT NULL, 
  generation INTEGER NOT NULL, 
  body VARCHAR NOT NULL, 
  judge BLOB, 
  PRIMARY KEY (deployment, number)
);
CREATE TABLE rollout_events (
  id INTEGER NOT NULL, 
  deployment VARCHAR NOT NULL, 
  rollout INTEGER NOT NULL, 
  at DOUBLE NOT NULL, 
  who VARCHAR NOT NULL, 
  what VARCHAR NOT NULL, 
  why VARCHAR NOT NULL, 
  evidence JSON NOT NULL, 
  PRIMARY KEY (id)
);
CREATE INDEX ix_rollout_events_deployment ON rollout_events (deployment);
