CREATE TABLE IF NOT EXISTS import_jobs (
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
    unfinished_profile VARCHAR(191) GENERATED ALWAYS AS (CASE WHEN status IN ('pending', 'processing') THEN profile END) STORED,
    PRIMARY KEY (job_id),
    CONSTRAINT one_unfinished_job UNIQUE (unfinished_profile),
    CONSTRAINT job_status CHECK (status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    CONSTRAINT job_coordination_status CHECK (coordination_status IN ('none', 'planning', 'planned')),
    CONSTRAINT job_lease CHECK ((lease_owner IS NULL) = (lease_expires_at IS NULL))
);

CREATE INDEX IF NOT EXISTS jobs_of_profile ON import_jobs (profile, created_at);

CREATE TABLE IF NOT EXISTS wave_coordination (
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

CREATE TABLE IF NOT EXISTS wave_batches (
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
    PRIMARY KEY (job_id, batch_id),
    CONSTRAINT batch_kind CHECK (kind IN ('plan', 'range', 'parents')),
    CONSTRAINT batch_status CHECK (status IN ('pending', 'dispatched', 'processing', 'completed', 'failed')),
    CONSTRAINT batch_lease CHECK ((status IN ('dispatched', 'processing')) = (lease_expires_at IS NOT NULL)),
    CONSTRAINT failed_batch_says_why CHECK (status <> 'failed' OR error IS NOT NULL)
);

CREATE INDEX IF NOT EXISTS batches_to_claim ON wave_batches (job_id, wave_number, status, priority, batch_id);

CREATE INDEX IF NOT EXISTS batches_to_requeue ON wave_batches (job_id, status, lease_expires_at);

CREATE TABLE IF NOT EXISTS wave_journal (
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
    PRIMARY KEY (job_id, seq)
);

CREATE TABLE IF NOT EXISTS batch_events (
    id INTEGER NOT NULL,
    job_id VARCHAR(64) NOT NULL,
    batch_id VARCHAR(191) NOT NULL,
    at DATETIME NOT NULL,
    event VARCHAR(32) NOT NULL,
    attempt INTEGER NOT NULL,
    detail TEXT,
    PRIMARY KEY (id)
);

CREATE INDEX IF NOT EXISTS events_of_batch ON batch_events (job_id, batch_id);

CREATE TABLE IF NOT EXISTS import_watermarks (
    profile VARCHAR(191) NOT NULL,
    record VARCHAR(191) NOT NULL,
    watermark DATETIME NOT NULL,
    job_id VARCHAR(64),
    updated_at DATETIME NOT NULL,
    PRIMARY KEY (profile, record)
);

CREATE TABLE IF NOT EXISTS import_accounts (
    account VARCHAR(191) NOT NULL,
    credential VARCHAR(32) NOT NULL,
    refused_at DATETIME NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (account, credential)
);

CREATE TABLE IF NOT EXISTS import_columns (
    profile VARCHAR(191) NOT NULL,
    table_name VARCHAR(191) NOT NULL,
    column_name VARCHAR(191) NOT NULL,
    destination TEXT NOT NULL,
    source_name VARCHAR(191) NOT NULL,
    type VARCHAR(32) NOT NULL,
    PRIMARY KEY (profile, table_name, column_name)
);
