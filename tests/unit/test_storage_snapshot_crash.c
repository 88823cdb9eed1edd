/*
 * Snapshots, resets, compaction and resumed transfers, and the power switch.
 *
 * A scripted load dies before every single disk operation in turn; of what was unsynced then, the telling combinations of
 * lost, kept and torn are tried.  After each the directory opens, and
 *
 *   - the newest snapshot that was reported durable is there, or a newer one, and its bytes are right,
 *   - the log is one that the owner had asked for at some point since the last durable one, old or begun anew, no mix,
 *   - a transfer that was under way is resumed and ends well.
 */
#include "tests/unit/snapshot_fixture.h"

#include <stdio.h>

#define SEGMENT (16u * 1024u)
#define WRITES 44u
#define PAYLOAD 900u
#define BLOCK 300u

struct history {
	struct log_model after[WRITES + 2];
	uint64_t written; /* the last write that was taken */
	uint64_t durable;
	uint64_t compacted;
	uint64_t snapshot; /* reported durable */
	uint64_t receiving;
	uint64_t receiving_term;
};

struct run {
	struct memory_disk *disk;
	struct storage *storage;
	struct history history;
};

static bool pump(struct run *run)
{
	int r = storage_process(run->storage, 1);
	uint64_t durable = storage_durable_seq(run->storage);
	if (durable > run->history.durable)
		run->history.durable = durable;
	if (newest_snapshot(run->storage) > run->history.snapshot)
		run->history.snapshot = newest_snapshot(run->storage);
	return r == 0 && !memory_disk_is_dead(run->disk);
}

/* Some operations of both lanes, as chance will have it. */
static bool work(struct run *run, uint64_t seed)
{
	for (uint64_t i = 0; i < 1 + seed % 3; i++)
		(void)memory_disk_step(run->disk, (seed + i) % 2 ? DISK_LANE_LOG : DISK_LANE_BACKGROUND);
	return pump(run);
}

static bool take_snapshot(struct run *run, uint64_t index, uint64_t term)
{
	struct storage_snapshot_begin begin = {.index = index, .term = term};
	uint8_t *payload = snapshot_payload(index, PAYLOAD);
	size_t taken = 0;
	bool alive = storage_snapshot_begin(run->storage, &begin) == 0 &&
		     storage_snapshot_write(run->storage, payload, PAYLOAD, &taken) == 0 &&
		     storage_snapshot_finish(run->storage) == 0;
	free(payload);
	for (uint64_t i = 0; alive && written(run->storage).phase != STORAGE_SNAPSHOT_IDLE; i++)
		alive = work(run, i);
	return alive;
}

static bool receive_snapshot(struct run *run, uint64_t index, uint64_t term)
{
	size_t size = 0;
	uint64_t offset = 0;
	uint8_t *file = snapshot_file(index, term, PAYLOAD, BLOCK, &size);
	run->history.receiving = index;
	run->history.receiving_term = term;
	bool alive = storage_receive_begin(run->storage, index, term, &offset) == 0;
	for (uint64_t i = 0; alive && received(run->storage).phase != STORAGE_SNAPSHOT_IDLE; i++) {
		size_t taken = 0;
		offset = received(run->storage).offset;
		size_t n = size - (size_t)offset < 200 ? size - (size_t)offset : 200;
		if (received(run->storage).phase == STORAGE_SNAPSHOT_WRITING)
			alive = storage_receive_write(run->storage, offset, file + offset, n, &taken) == 0;
		alive = alive && work(run, i);
	}
	free(file);
	return alive;
}

/* One step of the load. Returns false when the process died. */
static bool step(struct run *run, uint64_t seq)
{
	struct history *history = &run->history;
	struct log_model *model = &history->after[seq];
	*model = history->after[seq - 1];
	if (seq % 17 == 13) {
		/* Beyond the log the first time, in the middle of a diverging one the second. */
		uint64_t index = model->last + (seq == 13 ? 20 : 0) - (seq == 13 ? 0 : 4);
		uint64_t term = model->term + 3;
		if (!receive_snapshot(run, index, term))
			return false;
		struct storage_write reset = {
			.seq = seq, .term = term, .vote = 1, .commit = index, .reset_index = index, .reset_term = term};
		model->base = index; /* where the log began anew */
		model->last = index;
		model->term = term;
		model->vote = 1;
		model->entries[index].term = term;
		history->written = seq;
		return storage_append(run->storage, &reset) == 0;
	}
	struct log_write write = {.seq = seq,
				  .term = model->term + (seq % 5 == 1),
				  .vote = seq % 3,
				  .n_entries = 1 + (uint32_t)(seq % 3),
				  .size = (uint32_t)(seq * 677 % 1900),
				  .salt = seq};
	history->written = seq; /* it may be on its way when the process dies */
	if (log_fixture_append(run->storage, model, &write) != 0)
		return false;
	if (seq % 7 == 6) {
		const struct log_model *durable = &history->after[history->durable];
		uint64_t index = durable->last;
		uint64_t term = 0;
		if (durable->base != model->base || index <= newest_snapshot(run->storage) || index == 0)
			return true;
		if (!take_snapshot(run, index, durable->entries[index].term))
			return false;
		if (storage_snapshot_keeps(run->storage, &index, &term) && index > model->base) {
			history->compacted = index > history->compacted ? index : history->compacted;
			return storage_compact(run->storage, index, term) == 0;
		}
	}
	return true;
}

static void load(struct run *run)
{
	struct storage_options options = log_fixture_options(SEGMENT);
	struct storage_state found;
	char message[STORAGE_MESSAGE_MAX];
	run->storage = NULL;
	if (storage_open(memory_disk_open(run->disk), &options, &run->storage, &found, message) != 0) {
		assert_true(memory_disk_is_dead(run->disk));
		return;
	}
	bool alive = true;
	for (uint64_t seq = 1; alive && seq <= WRITES; seq++) {
		alive = step(run, seq) && work(run, seq);
		if (alive && seq % 4 == 0) {
			memory_disk_run_all(run->disk, seq);
			alive = pump(run);
		}
		if (!alive && !memory_disk_is_dead(run->disk))
			fail_msg("the load stops at write %llu", (unsigned long long)seq);
	}
	while (alive && !memory_disk_is_idle(run->disk)) {
		memory_disk_run_all(run->disk, 7);
		alive = pump(run);
	}
	(void)pump(run);
	run->storage = storage_free(run->storage);
}

/* The judgement ------------------------------------------------------------------------------------------ */

/* Could the log in storage be the one after write number seq? */
static bool log_is(const struct history *history, struct storage *storage, const struct storage_state *found,
		   uint64_t seq)
{
	const struct log_model *model = &history->after[seq];
	const struct log_model *durable = &history->after[history->durable];
	uint64_t least = durable->base == model->base ? durable->last : model->base;
	uint64_t most = model->base > history->compacted ? model->base : history->compacted;
	int error = 0;
	if (found->base_index < model->base || found->base_index > most || found->last_index < least ||
	    found->last_index > model->last)
		return false;
	if (found->base_index == model->base && model->base > 0 && found->base_term != model->entries[model->base].term)
		return false;
	return log_fixture_compare(storage, model, found->base_index + 1, found->last_index, 100, &error) == 0;
}

static const char *judge(const struct history *history, struct storage *storage, const struct storage_state *found)
{
	bool fits = false;
	for (uint64_t seq = history->durable; seq <= history->written && !fits; seq++)
		fits = log_is(history, storage, found, seq);
	if (!fits)
		return "the log is not one that was written since the last durable one";
	if (found->snapshot_index < history->snapshot)
		return "a durable snapshot is gone";
	if (found->base_index > found->snapshot_index)
		return "the log begins behind the snapshot";
	if (found->snapshot_index > 0 && snapshot_compare(storage, found->snapshot_index, PAYLOAD) != 0)
		return "the snapshot holds something else";
	if (found->snapshot_damage[0])
		return found->snapshot_damage;
	return NULL;
}

/* What the owner does with what it finds: goes on with the transfer and with the log. */
static const char *go_on(struct run *run, const struct storage_state *found)
{
	struct history *history = &run->history;
	struct storage_snapshot_info newest = {.index = 0};
	if (history->receiving > found->snapshot_index &&
	    !receive_snapshot(run, history->receiving, history->receiving_term))
		return "a transfer cannot be resumed";
	if (!storage_snapshot_newest(run->storage, &newest))
		return NULL;
	if (newest.index == found->snapshot_index && !found->snapshot_beyond_log)
		return NULL;
	struct storage_write reset = {.seq = 1,
				      .term = found->term + 1,
				      .commit = newest.index,
				      .reset_index = newest.index,
				      .reset_term = newest.term};
	if (storage_append(run->storage, &reset) != 0 || log_fixture_drain(run->storage, run->disk, 3) != 0)
		return "the log cannot begin anew";
	return NULL;
}

static const char *verify(struct memory_disk *disk, const struct history *history)
{
	struct storage_options options = log_fixture_options(SEGMENT);
	struct run run = {.disk = disk, .history = *history};
	struct storage_state found = {0};
	struct storage_state again = {0};
	static char message[STORAGE_MESSAGE_MAX];
	if (storage_open(memory_disk_open(disk), &options, &run.storage, &found, message) != 0)
		return message;
	const char *wrong = judge(history, run.storage, &found);
	if (!wrong)
		wrong = go_on(&run, &found);
	uint64_t newest = newest_snapshot(run.storage);
	if (!wrong && newest > 0 && snapshot_compare(run.storage, newest, PAYLOAD) != 0)
		wrong = "the snapshot that was resumed holds something else";
	storage_free(run.storage);
	memory_disk_kill(disk);
	if (wrong)
		return wrong;
	if (storage_open(memory_disk_open(disk), &options, &run.storage, &again, message) != 0)
		return message;
	if (again.snapshot_index != newest || again.snapshot_beyond_log)
		wrong = "what was done after recovery is gone";
	storage_free(run.storage);
	return wrong;
}

/* Crashes ------------------------------------------------------------------------------------------------- */

struct fates {
	unsigned how; /* 0 … 2: all the same; then one differs; then random */
	uint64_t random;
};

static enum memory_fate choose(void *arg, unsigned number)
{
	struct fates *fates = arg;
	if (fates->how < FATES)
		return (enum memory_fate)fates->how;
	if (fates->how < FATES + 8)
		return number == fates->how - FATES ? FATE_TORN : FATE_KEPT;
	if (fates->how < FATES + 16)
		return number < fates->how - FATES - 8 ? FATE_KEPT : FATE_LOST;
	fates->random = fates->random * 6364136223846793005u + 1442695040888963407u;
	return (enum memory_fate)((fates->random >> 33) % FATES);
}

static void crash_at(struct run *run, uint64_t at)
{
	for (unsigned how = 0; how < FATES + 24; how++) {
		struct fates fates = {.how = how, .random = at * 64 + how};
		struct memory_disk *disk = memory_disk_clone(run->disk);
		const char *wrong = NULL;
		memory_disk_crash(disk, choose, &fates);
		if (how % 9 == 0) { /* and once more in the middle of recovery */
			struct storage_options options = log_fixture_options(SEGMENT);
			struct storage_state found;
			char message[STORAGE_MESSAGE_MAX];
			struct disk *handle = memory_disk_open(disk);
			memory_disk_die_at(disk, 1 + at % 5);
			if (storage_open(handle, &options, &run->storage, &found, message) == 0)
				run->storage = storage_free(run->storage);
			else if (!memory_disk_is_dead(disk))
				wrong = message;
			memory_disk_crash(disk, choose, &fates);
		}
		if (!wrong)
			wrong = verify(disk, &run->history);
		if (wrong)
			fail_msg("died before operation %llu, fate %u: %s", (unsigned long long)at, how, wrong);
		memory_disk_free(disk);
	}
}

static void power_failure_at_every_operation(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	assert_non_null(run);
	bool died = true;
	uint64_t at = 0;
	for (; died; at++) {
		memset(&run->history, 0, sizeof(run->history));
		run->disk = memory_disk_new();
		memory_disk_die_at(run->disk, at);
		load(run);
		died = memory_disk_is_dead(run->disk);
		if (died)
			crash_at(run, at);
		run->disk = memory_disk_free(run->disk);
	}
	assert_true(at > 150);
	assert_int_equal(run->history.durable, WRITES);
	assert_true(run->history.compacted > run->history.after[30].base);
	free(run);
}

/* The process dies and the machine lives; then, after recovery has reported what it found, the power fails, or a sync had
 * failed before and the disk holds less than the page cache showed. */
static void what_recovery_reports_does_not_rest_on_the_page_cache(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	struct storage_options options = log_fixture_options(SEGMENT);
	char message[STORAGE_MESSAGE_MAX];
	bool died = true;
	unsigned resumed = 0;
	assert_non_null(run);
	for (uint64_t at = 0; died; at++) {
		memset(&run->history, 0, sizeof(run->history));
		run->disk = memory_disk_new();
		memory_disk_die_at(run->disk, at);
		load(run);
		died = memory_disk_is_dead(run->disk);
		memory_disk_kill(run->disk);
		struct storage_state found;
		struct storage_state again;
		struct fates lost = {.how = FATE_LOST};
		assert_int_equal(storage_open(memory_disk_open(run->disk), &options, &run->storage, &found, message),
				 0);
		assert_null(judge(&run->history, run->storage, &found));
		uint64_t part = received(run->storage).offset;
		run->storage = storage_free(run->storage);
		memory_disk_crash(run->disk, choose, &lost);
		assert_int_equal(storage_open(memory_disk_open(run->disk), &options, &run->storage, &again, message),
				 0);
		assert_int_equal(again.snapshot_index, found.snapshot_index);
		assert_int_equal(again.last_index, found.last_index);
		assert_int_equal(again.base_index, found.base_index);
		assert_int_equal(received(run->storage).offset, part);
		resumed += part > 0;
		run->storage = storage_free(run->storage);
		run->disk = memory_disk_free(run->disk);
	}
	assert_true(resumed > 5);
	free(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_failure_at_every_operation),
		cmocka_unit_test(what_recovery_reports_does_not_rest_on_the_page_cache),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
