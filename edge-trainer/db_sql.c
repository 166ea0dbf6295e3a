/* The schema, how it came to be, and the statements. */
#include "edge-trainer/db_priv.h"

const char *const db_migrations[DB_SCHEMA_VERSION] = {
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE devices("
	"  id TEXT PRIMARY KEY, status TEXT, boot INTEGER NOT NULL, online INTEGER NOT NULL,"
	"  report_seq INTEGER NOT NULL, report_have INTEGER NOT NULL, seen_ms INTEGER NOT NULL"
	") WITHOUT ROWID;"
	"CREATE TABLE reports("
	"  device TEXT NOT NULL, seq INTEGER NOT NULL, checkpoint TEXT NOT NULL,"
	"  origin TEXT NOT NULL, snapshot TEXT NOT NULL, split TEXT NOT NULL,"
	"  n INTEGER NOT NULL, correct INTEGER NOT NULL, loss REAL, per_class TEXT,"
	"  decision TEXT, against TEXT, against_accuracy REAL, epoch INTEGER NOT NULL,"
	"  at_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,"
	"  PRIMARY KEY(device, seq)) WITHOUT ROWID;"
	/* One row a device: two devices may hand over the same weights. */
	"CREATE TABLE checkpoints("
	"  id TEXT NOT NULL, device TEXT NOT NULL, manifest TEXT NOT NULL, origin TEXT NOT NULL,"
	"  epoch INTEGER NOT NULL, received_ms INTEGER NOT NULL,"
	"  PRIMARY KEY(id, device)) WITHOUT ROWID;"
	"CREATE TABLE jobs("
	"  id INTEGER PRIMARY KEY, device TEXT NOT NULL, checkpoint TEXT NOT NULL,"
	"  fence INTEGER NOT NULL, state TEXT NOT NULL, pulled INTEGER NOT NULL,"
	"  epochs INTEGER NOT NULL, epoch_done INTEGER NOT NULL, partial TEXT, result TEXT,"
	"  images_trained INTEGER NOT NULL, worked_ms INTEGER NOT NULL,"
	"  before_n INTEGER, before_correct INTEGER, before_loss REAL, before_snapshot TEXT,"
	"  after_n INTEGER, after_correct INTEGER, after_loss REAL, after_snapshot TEXT,"
	"  outcome TEXT NOT NULL, reason TEXT,"
	"  validation_n INTEGER, validation_correct INTEGER, validation_loss REAL,"
	"  test_n INTEGER, test_correct INTEGER, test_loss REAL,"
	"  local_validation_n INTEGER, local_validation_correct INTEGER, local_validation_loss REAL,"
	"  local_test_n INTEGER, local_test_correct INTEGER, local_test_loss REAL,"
	"  created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
	"  UNIQUE(device, checkpoint, fence));"
	"CREATE INDEX jobs_open ON jobs(id) WHERE state <> 'done';"
	"CREATE INDEX jobs_created ON jobs(created_ms);"
	"CREATE TABLE runs("
	"  id INTEGER PRIMARY KEY, job INTEGER NOT NULL, device TEXT NOT NULL,"
	"  checkpoint TEXT NOT NULL, fence INTEGER NOT NULL,"
	"  started_ms INTEGER NOT NULL, started_mono_ms INTEGER NOT NULL,"
	"  until_mono_ms INTEGER NOT NULL, ended_ms INTEGER, ended_mono_ms INTEGER, why TEXT);"
	"CREATE INDEX runs_open ON runs(id) WHERE ended_ms IS NULL;",
	/* 2: logs of reports, handovers of devices, and indexes for what is no longer kept. */
	"ALTER TABLE devices ADD COLUMN log TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE devices ADD COLUMN handovers INTEGER NOT NULL DEFAULT 0;"
	"UPDATE devices SET handovers = (SELECT count(*) FROM jobs WHERE jobs.device = devices.id"
	"  AND outcome IN ('activated', 'kept'));"
	"CREATE TABLE reports_2("
	"  device TEXT NOT NULL, log TEXT NOT NULL, seq INTEGER NOT NULL, checkpoint TEXT NOT NULL,"
	"  origin TEXT NOT NULL, snapshot TEXT NOT NULL, split TEXT NOT NULL,"
	"  n INTEGER NOT NULL, correct INTEGER NOT NULL, loss REAL, per_class TEXT,"
	"  decision TEXT, against TEXT, against_accuracy REAL, epoch INTEGER NOT NULL,"
	"  at_ms INTEGER NOT NULL, received_ms INTEGER NOT NULL,"
	"  PRIMARY KEY(device, log, seq)) WITHOUT ROWID;"
	"INSERT INTO reports_2(device, log, seq, checkpoint, origin, snapshot, split, n, correct,"
	"  loss, per_class, decision, against, against_accuracy, epoch, at_ms, received_ms)"
	"  SELECT device, '', seq, checkpoint, origin, snapshot, split, n, correct, loss,"
	"  per_class, decision, against, against_accuracy, epoch, at_ms, received_ms FROM reports;"
	"DROP TABLE reports;"
	"ALTER TABLE reports_2 RENAME TO reports;"
	"CREATE INDEX reports_received ON reports(received_ms);"
	"CREATE INDEX jobs_done ON jobs(updated_ms, id) WHERE state = 'done';"
	"CREATE INDEX jobs_checkpoint ON jobs(checkpoint);"
	"CREATE INDEX jobs_partial ON jobs(partial);"
	"CREATE INDEX runs_job ON runs(job);",
	/* 3: windows; a window's own job is of no device (''), and its fence is the window's number. */
	"ALTER TABLE devices ADD COLUMN weight REAL NOT NULL DEFAULT 0;"
	"ALTER TABLE devices ADD COLUMN error REAL;"
	"ALTER TABLE jobs ADD COLUMN window INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE jobs ADD COLUMN mixed INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE jobs ADD COLUMN reported_n INTEGER;"
	"ALTER TABLE jobs ADD COLUMN reported_correct INTEGER;"
	"ALTER TABLE jobs ADD COLUMN reported_loss REAL;",
	/* 4: why it was decided so, and on what that stands. */
	"ALTER TABLE reports ADD COLUMN reason TEXT;"
	"ALTER TABLE reports ADD COLUMN why TEXT;"
	"ALTER TABLE reports ADD COLUMN test TEXT;"
	"ALTER TABLE reports ADD COLUMN contenders INTEGER;"
	"ALTER TABLE reports ADD COLUMN won INTEGER;"
	"ALTER TABLE reports ADD COLUMN lost INTEGER;"
	"ALTER TABLE reports ADD COLUMN p REAL;",
	/* 5: the last offer of each device, where they are signed. */
	"CREATE TABLE offers("
	"  device TEXT PRIMARY KEY, sequence INTEGER NOT NULL, checkpoint TEXT NOT NULL,"
	"  over INTEGER NOT NULL) WITHOUT ROWID;",
	/* 6: keys of a handover's blocks, as long as it is open. */
	("ALTER TABLE jobs ADD COLUMN seal_secret TEXT;"
	 "ALTER TABLE jobs ADD COLUMN seal_theirs TEXT;"),
	/* 7: how devices stand. */
	"CREATE TABLE standing(device TEXT PRIMARY KEY, delta REAL NOT NULL,"
	"  refusals INTEGER NOT NULL, first_ms INTEGER NOT NULL, times INTEGER NOT NULL,"
	"  since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, why TEXT NOT NULL) WITHOUT ROWID;",
};

/* Each of the statements that take jobs away sees the same ones. */
#define OLD_JOBS "SELECT id FROM jobs WHERE state = 'done' AND updated_ms < :before"             \
		 " ORDER BY updated_ms, id LIMIT :most"
#define SCORE_SET(x) #x "_n = :" #x "_n, " #x "_correct = :" #x "_correct, " #x "_loss = :" #x "_loss"
#define SCORE_COLUMNS(x) #x "_n, " #x "_correct, " #x "_loss"
#define SCORE_VALUES(x)	 ":" #x "_n, :" #x "_correct, :" #x "_loss"

const char *const db_sql[DB_STMT_N] = {
	[DB_NEXT] = "INSERT INTO meta(key, value) VALUES(:key, 1)"
		    " ON CONFLICT(key) DO UPDATE SET value = value + 1 RETURNING value",
	[DB_SEQUENCE] = "INSERT INTO meta(key, value) VALUES('sequence', :now)"
			" ON CONFLICT(key) DO UPDATE SET value = CASE"
			" WHEN value - excluded.value >= :ahead THEN excluded.value"
			" ELSE max(value + 1, excluded.value) END RETURNING value",
	[DB_OFFER_GET] = "SELECT sequence, checkpoint, over FROM offers WHERE device = :device",
	[DB_OFFER_PUT] = "INSERT OR REPLACE INTO offers(device, sequence, checkpoint, over)"
			 " VALUES(:device, :sequence, :checkpoint, :over)",
	[DB_OFFER_OVER] = "UPDATE offers SET over = 1 WHERE device = :device AND checkpoint = :checkpoint",
	[DB_DEVICE_PUT] =
		"INSERT INTO devices(id, status, boot, online, report_seq, report_have, seen_ms, log,"
		" handovers, weight, error) VALUES(:id, :status, :boot, :online, :report_seq,"
		" :report_have, :seen, :log, :handovers, :weight, :error)"
		" ON CONFLICT(id) DO UPDATE SET status = coalesce(excluded.status, status),"
		" boot = excluded.boot, online = excluded.online, report_seq = excluded.report_seq,"
		" report_have = excluded.report_have, seen_ms = excluded.seen_ms,"
		" log = excluded.log, handovers = excluded.handovers, weight = excluded.weight,"
		" error = excluded.error",
	[DB_DEVICE_EACH] =
		"SELECT id, status, boot, online, report_seq, report_have, seen_ms, log, handovers,"
		" weight, error FROM devices ORDER BY seen_ms",
	[DB_DEVICE_FORGET] = "DELETE FROM devices WHERE id = :id",
	[DB_STANDING_GET] = "SELECT delta, refusals, first_ms, times, since_ms, until_ms, why"
			    " FROM standing WHERE device = :device",
	[DB_STANDING_PUT] =
		"INSERT OR REPLACE INTO standing(device, delta, refusals, first_ms, times, since_ms,"
		" until_ms, why) VALUES(:device, :delta, :refusals, :first, :times, :since, :until, :why)",
	[DB_STANDING_PRUNE] = "DELETE FROM standing WHERE until_ms < :before AND first_ms < :before"
			      " AND device NOT IN (SELECT id FROM devices)",
	[DB_REPORT_PUT] =
		"INSERT OR IGNORE INTO reports(device, log, seq, checkpoint, origin, snapshot, split, n,"
		" correct, loss, per_class, decision, against, against_accuracy, epoch, at_ms,"
		" received_ms, reason, why, test, contenders, won, lost, p) VALUES(:device, :log, :seq,"
		" :checkpoint, :origin, :snapshot, :split, :n, :correct, :loss, :per_class, :decision,"
		" :against, :against_accuracy, :epoch, :at, :received, :reason, :why, :test,"
		" :contenders, :won, :lost, :p)",
	[DB_REPORT_ABOVE] = "SELECT seq FROM reports WHERE device = :device AND log = :log"
			    " AND seq > :have AND seq <= :upto ORDER BY seq",
	[DB_CHECKPOINT_PUT] =
		"INSERT INTO checkpoints(id, device, manifest, origin, epoch, received_ms)"
		" VALUES(:id, :device, :manifest, :origin, :epoch, :received)"
		" ON CONFLICT(id, device) DO UPDATE SET manifest = excluded.manifest,"
		" origin = excluded.origin, epoch = excluded.epoch",
	[DB_JOB_INSERT] =
		"INSERT INTO jobs(device, checkpoint, fence, state, pulled, epochs, epoch_done,"
		" partial, result, images_trained, worked_ms, "
		SCORE_COLUMNS(before) ", before_snapshot, " SCORE_COLUMNS(after)
		", after_snapshot, outcome, reason, " SCORE_COLUMNS(validation) ", "
		SCORE_COLUMNS(test) ", " SCORE_COLUMNS(local_validation) ", "
		SCORE_COLUMNS(local_test) ", " SCORE_COLUMNS(reported)
		", window, mixed, seal_secret, seal_theirs, created_ms, updated_ms) VALUES(:device, :checkpoint,"
		" :fence, :state, :pulled, :epochs, :epoch_done, :partial, :result,"
		" :images_trained, :worked_ms, "
		SCORE_VALUES(before) ", :before_snapshot, " SCORE_VALUES(after)
		", :after_snapshot, :outcome, :reason, " SCORE_VALUES(validation) ", "
		SCORE_VALUES(test) ", " SCORE_VALUES(local_validation) ", "
		SCORE_VALUES(local_test) ", " SCORE_VALUES(reported) ", :window, :mixed, :seal_secret,"
		" :seal_theirs, :now, :now)"
		/* The same checkpoint under the same fence again: a device that lost its state. */
		" ON CONFLICT(device, checkpoint, fence) DO UPDATE SET state = excluded.state,"
		" pulled = excluded.pulled, epochs = excluded.epochs,"
		" epoch_done = excluded.epoch_done, partial = excluded.partial,"
		" result = excluded.result, images_trained = excluded.images_trained,"
		" worked_ms = excluded.worked_ms, before_n = NULL, after_n = NULL,"
		" outcome = excluded.outcome, reason = excluded.reason, validation_n = NULL,"
		" test_n = NULL, local_validation_n = NULL, local_test_n = NULL,"
		" reported_n = excluded.reported_n, reported_correct = excluded.reported_correct,"
		" reported_loss = excluded.reported_loss, window = excluded.window,"
		" mixed = excluded.mixed, seal_secret = excluded.seal_secret,"
		" seal_theirs = excluded.seal_theirs,"
		" created_ms = excluded.created_ms, updated_ms = excluded.updated_ms"
		" RETURNING id",
	[DB_JOB_UPDATE] =
		"UPDATE OR REPLACE jobs SET fence = :fence, state = :state, pulled = :pulled,"
		" epochs = :epochs, epoch_done = :epoch_done, partial = :partial, result = :result,"
		" images_trained = :images_trained, worked_ms = :worked_ms, "
		SCORE_SET(before) ", before_snapshot = :before_snapshot, " SCORE_SET(after)
		", after_snapshot = :after_snapshot, outcome = :outcome, reason = :reason, "
		SCORE_SET(validation) ", " SCORE_SET(test) ", " SCORE_SET(local_validation) ", "
		SCORE_SET(local_test) ", " SCORE_SET(reported)
		", window = :window, mixed = :mixed, seal_secret = :seal_secret,"
		" seal_theirs = :seal_theirs, updated_ms = :now WHERE id = :id",
	[DB_JOB_EACH] =
		"SELECT j.id, j.device, j.fence, j.state, j.pulled, j.epochs, j.epoch_done,"
		" j.partial, j.images_trained, j.worked_ms, j.before_n, j.before_correct,"
		" j.before_loss, j.before_snapshot, j.after_n, j.after_correct, j.after_loss,"
		" j.after_snapshot, j.reason, c.manifest, j.window, j.mixed, j.reported_n,"
		" j.reported_correct, j.reported_loss, j.seal_secret, j.seal_theirs"
		" FROM jobs j LEFT JOIN checkpoints c ON c.id = j.checkpoint AND c.device = j.device"
		" WHERE j.state <> 'done' ORDER BY j.id",
	[DB_JOB_SERVED] = "SELECT device, count(*) FROM jobs WHERE created_ms > :since"
			  " AND device <> '' GROUP BY device",
	/* With those whose rows are gone. */
	[DB_JOB_FINISHED] =
		"SELECT (SELECT count(*) FROM jobs WHERE outcome IN ('activated', 'kept'))"
		" + coalesce((SELECT value FROM meta WHERE key = 'handovers'), 0),"
		" (SELECT count(*) FROM jobs WHERE outcome = 'screened')"
		" + coalesce((SELECT value FROM meta WHERE key = 'screened'), 0)",
	[DB_JOB_LINEAGE] =
		"SELECT j.id, c.manifest FROM jobs j JOIN checkpoints c ON c.id = j.result AND c.device = j.device"
		" WHERE j.device = '' AND j.outcome = 'merged' ORDER BY j.id DESC LIMIT 1",
	[DB_JOB_LAST] = "SELECT checkpoint, result FROM jobs WHERE device = :device"
			" AND outcome IN ('activated', 'kept') ORDER BY id DESC LIMIT 1",
	[DB_JOB_SENT] = "SELECT 1 FROM jobs WHERE device = :device AND checkpoint = :checkpoint"
			" AND pulled LIMIT 1",
	[DB_JOB_SHARED] = "SELECT 1 FROM jobs WHERE device = :device AND"
			  " (checkpoint = :checkpoint AND pulled OR partial = :checkpoint) LIMIT 1",
	[DB_CHECKPOINT_KNOWN] =
		"SELECT 1 WHERE EXISTS (SELECT 1 FROM checkpoints WHERE id = :id)"
		" OR EXISTS (SELECT 1 FROM jobs WHERE checkpoint = :id)"
		" OR EXISTS (SELECT 1 FROM jobs WHERE partial = :id)",
	[DB_CHECKPOINT_KEPT] =
		"SELECT id FROM (SELECT checkpoint AS id, state <> 'done' AS open, updated_ms"
		" FROM jobs WHERE state <> 'done' OR updated_ms > :since"
		" UNION ALL SELECT partial, state <> 'done', updated_ms FROM jobs"
		" WHERE partial IS NOT NULL AND (state <> 'done' OR updated_ms > :since))"
		" GROUP BY id ORDER BY max(open) DESC, max(updated_ms) DESC",
	[DB_CHECKPOINT_FORGET] =
		"DELETE FROM checkpoints WHERE NOT EXISTS (SELECT 1 FROM jobs j"
		" WHERE j.device = checkpoints.device"
		" AND (j.checkpoint = checkpoints.id OR j.partial = checkpoints.id)"
		" AND (j.state <> 'done' OR j.updated_ms > :since))",
	[DB_RUN_OPEN] =
		"INSERT INTO runs(job, device, checkpoint, fence, started_ms, started_mono_ms,"
		" until_mono_ms) VALUES(:job, :device, :checkpoint, :fence, :now, :mono, :until)",
	[DB_RUN_EXTEND] = "UPDATE runs SET until_mono_ms = :until WHERE id = :id",
	/* A worker does not train beyond the deadline, however late that is noted here. */
	[DB_RUN_CLOSE] =
		"UPDATE runs SET ended_mono_ms = min(:mono, until_mono_ms),"
		" ended_ms = :now - (:mono - min(:mono, until_mono_ms)), why = :why"
		" WHERE id = :id AND ended_ms IS NULL",
	/* After a reboot the monotonic clock began anew: then the row's own numbers stand. */
	[DB_RUN_RECOVER] =
		"UPDATE runs SET why = 'killed', ended_mono_ms = CASE WHEN :mono < started_mono_ms"
		" THEN until_mono_ms ELSE min(until_mono_ms, :mono) END,"
		" ended_ms = min(:now, started_ms + CASE WHEN :mono < started_mono_ms"
		" THEN until_mono_ms ELSE min(until_mono_ms, :mono) END - started_mono_ms)"
		" WHERE ended_ms IS NULL",
	/* The newest of the jobs that are too many. */
	[DB_PRUNE_BEFORE] = "SELECT updated_ms FROM jobs WHERE state = 'done'"
			    " ORDER BY updated_ms DESC, id DESC LIMIT 1 OFFSET :max",
	[DB_PRUNE_RUNS] = "DELETE FROM runs WHERE job IN (" OLD_JOBS ")",
	[DB_PRUNE_COUNT] =
		"INSERT INTO meta(key, value) SELECT CASE outcome WHEN 'screened' THEN outcome"
		" ELSE 'handovers' END AS counter, count(*) FROM jobs"
		" WHERE outcome IN ('activated', 'kept', 'screened') AND id IN (" OLD_JOBS ")"
		" GROUP BY counter ON CONFLICT(key) DO UPDATE SET value = value + excluded.value",
	[DB_PRUNE_JOBS] = "DELETE FROM jobs WHERE id IN (" OLD_JOBS ")",
	[DB_PRUNE_OLD_REPORTS] =
		"DELETE FROM reports WHERE (device, log, seq) IN (SELECT device, log, seq FROM reports"
		" WHERE received_ms < :before ORDER BY received_ms LIMIT :most)",
	[DB_PRUNE_UNPROVEN] =
		"DELETE FROM reports WHERE (device, log, seq) IN (SELECT device, log, seq FROM reports"
		" WHERE device NOT IN (SELECT id FROM devices WHERE handovers > 0)"
		" ORDER BY received_ms LIMIT :most)",
	[DB_PRUNE_REPORTS] =
		"DELETE FROM reports WHERE (device, log, seq) IN (SELECT device, log, seq FROM reports"
		" ORDER BY received_ms LIMIT :most)",
};
