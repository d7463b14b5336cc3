-- The coordination tables of waveimport, for both databases: `waveimport db schema --dialect mysql|sqlite`.
-- Made by `waveimport db upgrade` or the first `run`; this file is for reading and for review.

-- ---- MySQL 8, MariaDB 10.6 and newer ----

CREATE TABLE import_jobs (
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    profile VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    mode VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    selection LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    as_of DATETIME(6),
    config_hash VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    config_text LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    status VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    coordination_status VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    idle_passes BIGINT NOT NULL DEFAULT '0',
    journal_seq BIGINT NOT NULL DEFAULT '0',
    lease_owner VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    lease_token BIGINT NOT NULL DEFAULT '0',
    lease_expires_at DATETIME(6),
    lease_machine VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    lease_lock VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    finished_at DATETIME(6),
    error LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    reconciled_at DATETIME(6),
    pass_seq BIGINT NOT NULL DEFAULT '0',
    unfinished_profile VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin GENERATED ALWAYS AS (CASE WHEN status IN ('pending', 'processing') THEN profile END) STORED,
    PRIMARY KEY (job_id),
    CONSTRAINT one_unfinished_job UNIQUE (unfinished_profile),
    CONSTRAINT job_status CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT job_coordination_status CHECK (coordination_status IN ('none', 'planning', 'planned')),
    CONSTRAINT job_lease CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL))
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE INDEX jobs_of_profile ON import_jobs (profile, created_at);

CREATE TABLE wave_coordination (
    id BIGINT NOT NULL AUTO_INCREMENT,
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    wave_number INTEGER NOT NULL,
    kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    status VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    sealed SMALLINT NOT NULL DEFAULT '0',
    records LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    parent_wave INTEGER,
    depth INTEGER NOT NULL DEFAULT '0',
    total BIGINT NOT NULL DEFAULT '0',
    counted_until DATETIME(6),
    counted LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT unique_job_wave UNIQUE (job_id, wave_number),
    CONSTRAINT wave_kind CHECK (kind IN ('main', 'derived')),
    CONSTRAINT wave_status CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
    CONSTRAINT wave_sealed CHECK (sealed IN (0, 1)),
    CONSTRAINT completed_wave_is_sealed CHECK (status <> 'completed' OR sealed = 1),
    CONSTRAINT derived_wave_has_parent CHECK ((kind = 'derived') = (parent_wave IS NOT NULL))
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE wave_batches (
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    batch_id VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    wave_number INTEGER NOT NULL,
    record VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    priority SMALLINT NOT NULL DEFAULT '1',
    status VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempt INTEGER NOT NULL DEFAULT '0',
    tries INTEGER NOT NULL DEFAULT '0',
    lost INTEGER NOT NULL DEFAULT '0',
    not_before DATETIME(6),
    lease_owner VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    lease_token BIGINT,
    lease_expires_at DATETIME(6),
    spec LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    resume_key LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    row_count BIGINT NOT NULL DEFAULT '0',
    created_at DATETIME(6) NOT NULL,
    updated_at DATETIME(6) NOT NULL,
    error LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    owed SMALLINT NOT NULL DEFAULT '0',
    carried_by VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    carried_as VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin,
    skipped_at DATETIME(6),
    skip_reason LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    claimed_at DATETIME(6),
    requests BIGINT NOT NULL DEFAULT '0',
    request_ms BIGINT NOT NULL DEFAULT '0',
    PRIMARY KEY (job_id, batch_id),
    CONSTRAINT batch_kind CHECK (kind IN ('plan', 'range', 'parents')),
    CONSTRAINT batch_status CHECK (status IN ('pending', 'dispatched', 'processing', 'completed', 'failed')),
    CONSTRAINT batch_lease CHECK ((status IN ('dispatched', 'processing')) = (lease_expires_at IS NOT NULL)),
    CONSTRAINT failed_batch_says_why CHECK (status <> 'failed' OR error IS NOT NULL)
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE INDEX batches_to_claim ON wave_batches (job_id, wave_number, status, priority, batch_id, not_before);

CREATE INDEX batches_to_count ON wave_batches (job_id, wave_number, record, status, updated_at, row_count, tries);

CREATE INDEX batches_to_requeue ON wave_batches (job_id, status, lease_expires_at);

CREATE TABLE wave_journal (
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seq BIGINT NOT NULL,
    at DATETIME(6) NOT NULL,
    source VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    token BIGINT NOT NULL,
    event VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    snapshot LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    decision LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    note LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    decision_version INTEGER NOT NULL,
    code_version VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    situation VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin,
    repeats BIGINT NOT NULL DEFAULT '0',
    repeated_at DATETIME(6),
    PRIMARY KEY (job_id, seq)
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE INDEX journal_by_situation ON wave_journal (job_id, token, situation);

CREATE TABLE batch_events (
    id BIGINT NOT NULL AUTO_INCREMENT,
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    batch_id VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    at DATETIME(6) NOT NULL,
    event VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempt INTEGER NOT NULL,
    detail LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    PRIMARY KEY (id)
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE INDEX events_of_batch ON batch_events (job_id, batch_id);

CREATE TABLE import_watermarks (
    profile VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    record VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    watermark DATETIME(6) NOT NULL,
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    updated_at DATETIME(6) NOT NULL,
    PRIMARY KEY (profile, record)
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE import_accounts (
    account VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    credential VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    refused_at DATETIME(6) NOT NULL,
    reason LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    PRIMARY KEY (account, credential)
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE account_runs (
    account VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    owner VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    job_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    bound INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    reason LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    changed_at DATETIME(6) NOT NULL,
    expires_at DATETIME(6) NOT NULL,
    PRIMARY KEY (account, owner)
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

CREATE TABLE import_columns (
    profile VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    table_name VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    column_name VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    destination LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    source_name VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    type VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (profile, table_name, column_name)
)ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;

-- ---- SQLite ----

CREATE TABLE import_jobs (
    job_id VARCHAR(64) NOT NULL,
    profile VARCHAR(191) NOT NULL,
    mode VARCHAR(32) NOT NULL,
    selection TEXT,
    as_of DATETIME,
    config_hash VARCHAR(64) NOT NULL,
    config_text TEXT NOT NULL,
    status VARCHAR(32) NOT NULL,
    coordination_status VARCHAR(32) NOT NULL,
    idle_passes BIGINT DEFAULT '0' NOT NULL,
    journal_seq BIGINT DEFAULT '0' NOT NULL,
    lease_owner VARCHAR(191),
    lease_token BIGINT DEFAULT '0' NOT NULL,
    lease_expires_at DATETIME,
    lease_machine VARCHAR(191),
    lease_lock VARCHAR(191),
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    finished_at DATETIME,
    error TEXT,
    reconciled_at DATETIME,
    pass_seq BIGINT DEFAULT '0' NOT NULL,
    unfinished_profile VARCHAR(191) GENERATED ALWAYS AS (CASE WHEN status IN ('pending', 'processing') THEN profile END) STORED,
    PRIMARY KEY (job_id),
    CONSTRAINT one_unfinished_job UNIQUE (unfinished_profile),
    CONSTRAINT job_status CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT job_coordination_status CHECK (coordination_status IN ('none', 'planning', 'planned')),
    CONSTRAINT job_lease CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL))
);

CREATE INDEX jobs_of_profile ON import_jobs (profile, created_at);

CREATE TABLE wave_coordination (
    id INTEGER NOT NULL,
    job_id VARCHAR(64) NOT NULL,
    wave_number INTEGER NOT NULL,
    kind VARCHAR(32) NOT NULL,
    status VARCHAR(32) NOT NULL,
    sealed SMALLINT DEFAULT '0' NOT NULL,
    records TEXT NOT NULL,
    parent_wave INTEGER,
    depth INTEGER DEFAULT '0' NOT NULL,
    total BIGINT DEFAULT '0' NOT NULL,
    counted_until DATETIME,
    counted TEXT,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT unique_job_wave UNIQUE (job_id, wave_number),
    CONSTRAINT wave_kind CHECK (kind IN ('main', 'derived')),
    CONSTRAINT wave_status CHECK (status IN ('pending', 'processing', 'completed', 'failed')),
    CONSTRAINT wave_sealed CHECK (sealed IN (0, 1)),
    CONSTRAINT completed_wave_is_sealed CHECK (status <> 'completed' OR sealed = 1),
    CONSTRAINT derived_wave_has_parent CHECK ((kind = 'derived') = (parent_wave IS NOT NULL))
);

CREATE TABLE wave_batches (
    job_id VARCHAR(64) NOT NULL,
    batch_id VARCHAR(191) NOT NULL,
    wave_number INTEGER NOT NULL,
    record VARCHAR(191) NOT NULL,
    kind VARCHAR(32) NOT NULL,
    priority SMALLINT DEFAULT '1' NOT NULL,
    status VARCHAR(32) NOT NULL,
    attempt INTEGER DEFAULT '0' NOT NULL,
    tries INTEGER DEFAULT '0' NOT NULL,
    lost INTEGER DEFAULT '0' NOT NULL,
    not_before DATETIME,
    lease_owner VARCHAR(191),
    lease_token BIGINT,
    lease_expires_at DATETIME,
    spec TEXT NOT NULL,
    resume_key TEXT,
    row_count BIGINT DEFAULT '0' NOT NULL,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    error TEXT,
    owed SMALLINT DEFAULT '0' NOT NULL,
    carried_by VARCHAR(64),
    carried_as VARCHAR(191),
    skipped_at DATETIME,
    skip_reason TEXT,
    claimed_at DATETIME,
    requests BIGINT DEFAULT '0' NOT NULL,
    request_ms BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (job_id, batch_id),
    CONSTRAINT batch_kind CHECK (kind IN ('plan', 'range', 'parents')),
    CONSTRAINT batch_status CHECK (status IN ('pending', 'dispatched', 'processing', 'completed', 'failed')),
    CONSTRAINT batch_lease CHECK ((status IN ('dispatched', 'processing')) = (lease_expires_at IS NOT NULL)),
    CONSTRAINT failed_batch_says_why CHECK (status <> 'failed' OR error IS NOT NULL)
);

CREATE INDEX batches_to_claim ON wave_batches (job_id, wave_number, status, priority, batch_id, not_before);

CREATE INDEX batches_to_count ON wave_batches (job_id, wave_number, record, status, updated_at, row_count, tries);

CREATE INDEX batches_to_requeue ON wave_batches (job_id, status, lease_expires_at);

CREATE TABLE wave_journal (
    job_id VARCHAR(64) NOT NULL,
    seq BIGINT NOT NULL,
    at DATETIME NOT NULL,
    source VARCHAR(32) NOT NULL,
    token BIGINT NOT NULL,
    event VARCHAR(32) NOT NULL,
    snapshot TEXT,
    decision TEXT,
    note TEXT,
    decision_version INTEGER NOT NULL,
    code_version VARCHAR(32) NOT NULL,
    situation VARCHAR(32),
    repeats BIGINT DEFAULT '0' NOT NULL,
    repeated_at DATETIME,
    PRIMARY KEY (job_id, seq)
);

CREATE INDEX journal_by_situation ON wave_journal (job_id, token, situation);

CREATE TABLE batch_events (
    id INTEGER NOT NULL,
    job_id VARCHAR(64) NOT NULL,
    batch_id VARCHAR(191) NOT NULL,
    at DATETIME NOT NULL,
    event VARCHAR(32) NOT NULL,
    attempt INTEGER NOT NULL,
    detail TEXT,
    PRIMARY KEY (id)
);

CREATE INDEX events_of_batch ON batch_events (job_id, batch_id);

CREATE TABLE import_watermarks (
    profile VARCHAR(191) NOT NULL,
    record VARCHAR(191) NOT NULL,
    watermark DATETIME NOT NULL,
    job_id VARCHAR(64),
    updated_at DATETIME NOT NULL,
    PRIMARY KEY (profile, record)
);

CREATE TABLE import_accounts (
    account VARCHAR(191) NOT NULL,
    credential VARCHAR(32) NOT NULL,
    refused_at DATETIME NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (account, credential)
);

CREATE TABLE account_runs (
    account VARCHAR(191) NOT NULL,
    owner VARCHAR(191) NOT NULL,
    job_id VARCHAR(64) NOT NULL,
    bound INTEGER NOT NULL,
    allowed INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    reason TEXT,
    changed_at DATETIME NOT NULL,
    expires_at DATETIME NOT NULL,
    PRIMARY KEY (account, owner)
);

CREATE TABLE import_columns (
    profile VARCHAR(191) NOT NULL,
    table_name VARCHAR(191) NOT NULL,
    column_name VARCHAR(191) NOT NULL,
    destination TEXT NOT NULL,
    source_name VARCHAR(191) NOT NULL,
    type VARCHAR(32) NOT NULL,
    PRIMARY KEY (profile, table_name, column_name)
);
