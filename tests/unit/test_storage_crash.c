/*
 * The log and the power switch.
 *
 * A scripted load runs over a disk in memory; the process dies before every single disk operation in turn, and of
 * what was unsynced then, every combination of lost, kept and torn sectors is tried (when there are too many,
 * the telling ones and random ones).  Then recovery is crashed at each of its operations, too.  After each:
 *
 *   - everything that was reported durable is there,
 *   - nothing is there that was never written: the log is one that the owner had asked for at some point since,
 *   - the log can be written to, and opens again.
 */
#include "tests/unit/log_fixture.h"
#include "tests/unit/memory_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SEGMENT (16u * 1024u)
#define WRITES_MAX 64u
#define EXHAUSTIVE_MAX 5u /* unsynced sectors up to which all combinations are tried: 3^5 */
#define RANDOM_FATES 24u

/* What the owner knows: the model after each write, and how far the log said it is durable. */
struct history {
	struct log_model after[WRITES_MAX + 1];
	uint64_t written;
	uint64_t durable;
	uint64_t base; /* compacted up to here */
};

struct run {
	struct memory_disk *disk;
	struct history history;
};

/* The load ------------------------------------------------------------------------------------------------ */

/* Cuts of queued, of submitted and of durable entries; elections; records from half a sector to many; several
 * segments; compaction. */
static struct log_write script(const struct log_model *model, uint64_t seq)
{
	struct log_write write = {.seq = seq, .term = 1 + seq / 5, .vote = seq % 3, .salt = seq};
	switch (seq % 8) {
	case 0:
		break; /* hard state alone */
	case 3:
		write.first_index = model->last > 3 ? model->last - 2 : 0;
		write.n_entries = 1;
		write.size = 900;
		break;
	case 6:
		write.truncate_from = model->last > 2 ? model->last : 0;
		break;
	default:
		write.n_entries = 1 + (uint32_t)(seq % 3);
		write.size = (uint32_t)(seq * 677 % 1900);
		break;
	}
	return write;
}

static int pump(struct run *run, struct storage *storage)
{
	int r = storage_process(storage, 1);
	uint64_t durable = storage_durable_seq(storage);
	if (durable > run->history.durable)
		run->history.durable = durable;
	return r;
}

/* Runs the load until it is over or the process dies. */
static void load(struct run *run, uint64_t writes)
{
	struct storage_options options = log_fixture_options(SEGMENT);
	struct storage *storage = NULL;
	struct storage_state found;
	char message[STORAGE_MESSAGE_MAX];
	struct history *history = &run->history;
	if (storage_open(memory_disk_open(run->disk), &options, &storage, &found, message) != 0) {
		assert_true(memory_disk_is_dead(run->disk));
		return;
	}
	for (uint64_t seq = 1; seq <= writes; seq++) {
		struct log_model *model = &history->after[seq];
		*model = history->after[seq - 1];
		struct log_write write = script(model, seq);
		if (log_fixture_append(storage, model, &write) != 0 || pump(run, storage) != 0)
			break;
		history->written = seq;
		/* Sometimes the disk does nothing, sometimes one operation, sometimes all there is. */
		for (uint64_t i = 0; i < seq * 7 % 5; i++)
			(void)memory_disk_step(run->disk, (seq + i) % 3 ? DISK_LANE_LOG : DISK_LANE_BACKGROUND);
		if (seq % 4 == 0)
			memory_disk_run_all(run->disk, seq);
		if (pump(run, storage) != 0 || memory_disk_is_dead(run->disk))
			break;
		const struct log_model *durable = &history->after[history->durable];
		if (seq % 16 == 15 && durable->last > 6 && model->last >= durable->last) {
			uint64_t index = durable->last - 5;
			if (model->entries[index].salt == durable->entries[index].salt && index > history->base) {
				if (log_fixture_compact(storage, run->disk, index, model->entries[index].term) != 0) {
					assert_true(memory_disk_is_dead(run->disk));
					break;
				}
				history->base = index;
			}
		}
	}
	if (!memory_disk_is_dead(run->disk))
		(void)log_fixture_drain(storage, run->disk, 5);
	(void)pump(run, storage);
	storage_free(storage);
}

/* The judgement ------------------------------------------------------------------------------------------- */

static bool same_entry(const struct log_model *a, const struct log_model *b, uint64_t index)
{
	return a->entries[index].term == b->entries[index].term && a->entries[index].salt == b->entries[index].salt &&
	       a->entries[index].size == b->entries[index].size;
}

/* How much of what was durable at `durable` the log after `seq` still must have: later writes may have cut it. */
static uint64_t must_have(const struct history *history, uint64_t durable, uint64_t seq)
{
	uint64_t n = history->after[durable].last;
	for (uint64_t s = durable + 1; s <= seq; s++) {
		const struct log_model *before = &history->after[s - 1];
		const struct log_model *after = &history->after[s];
		uint64_t common = 0;
		while (common < before->last && common < after->last && same_entry(before, after, common + 1))
			common++;
		n = common < n ? common : n;
	}
	return n;
}

/* Is the log in storage the one after write number seq, or the beginning of it that could already be durable? */
static bool log_is(const struct history *history, struct storage *storage, const struct storage_state *found,
		   uint64_t seq)
{
	const struct log_model *model = &history->after[seq];
	int error = 0;
	if (found->last_index > model->last || found->last_index < must_have(history, history->durable, seq))
		return false;
	return log_fixture_compare(storage, model, found->base_index + 1, found->last_index, 100, &error) == 0;
}

static const char *judge(const struct history *history, struct storage *storage, const struct storage_state *found)
{
	/* One write may be on its way when the process dies inside storage_append or storage_process. */
	uint64_t newest = history->written + 1 <= WRITES_MAX ? history->written + 1 : history->written;
	bool state_fits = false;
	bool log_fits = false;
	for (uint64_t seq = history->durable; seq <= newest; seq++) {
		const struct log_model *model = &history->after[seq];
		if (found->term == model->term && found->vote == model->vote)
			state_fits = true;
		if (log_is(history, storage, found, seq))
			log_fits = true;
	}
	if (found->base_index > history->base)
		return "entries are missing in front";
	if (!state_fits)
		return "the hard state is not one that was written since the last durable one";
	return log_fits ? NULL : "the log is not one that was written since the last durable one";
}

/* Opens what a crash left, judges it, writes more, opens again. */
static const char *verify(struct memory_disk *disk, const struct history *history, uint64_t die_in_recovery)
{
	struct storage_options options = log_fixture_options(SEGMENT);
	struct storage *storage = NULL;
	struct storage_state found = {0};
	struct storage_state again = {0};
	static _Thread_local char message[STORAGE_MESSAGE_MAX];
	if (die_in_recovery != UINT64_MAX) {
		struct disk *handle = memory_disk_open(disk);
		memory_disk_die_at(disk, die_in_recovery);
		if (storage_open(handle, &options, &storage, &found, message) == 0)
			storage = storage_free(storage);
		else if (!memory_disk_is_dead(disk))
			return message;
		return NULL;
	}
	if (storage_open(memory_disk_open(disk), &options, &storage, &found, message) != 0)
		return message;
	const char *wrong = judge(history, storage, &found);
	struct log_model more = {0};
	more.last = found.last_index;
	struct log_write write = {.seq = 1, .term = found.term + 1, .n_entries = 1, .size = 600, .salt = 12345};
	if (!wrong && (log_fixture_append(storage, &more, &write) != 0 || log_fixture_drain(storage, disk, 3) != 0))
		wrong = "cannot be written to";
	storage_free(storage);
	memory_disk_kill(disk);
	if (!wrong && storage_open(memory_disk_open(disk), &options, &storage, &again, message) != 0)
		return message;
	if (wrong)
		return wrong;
	if (again.last_index != found.last_index + 1 || again.term != found.term + 1)
		wrong = "what was written after recovery is gone";
	storage_free(storage);
	return wrong;
}

/* Crashes ------------------------------------------------------------------------------------------------- */

struct fates {
	enum { ALL_SAME, ALL_COMBINATIONS, ONE_DIFFERS, PREFIX, RANDOM } how;
	uint64_t number;
	uint64_t random;
};

static enum memory_fate choose(void *arg, unsigned sector)
{
	struct fates *fates = arg;
	switch (fates->how) {
	case ALL_SAME:
		return (enum memory_fate)(fates->number % FATES);
	case ALL_COMBINATIONS: {
		uint64_t digits = fates->number;
		for (unsigned i = 0; i < sector; i++)
			digits /= FATES;
		return (enum memory_fate)(digits % FATES);
	}
	case ONE_DIFFERS:
		return sector == fates->number / 2 ? (fates->number % 2 ? FATE_LOST : FATE_TORN) : FATE_KEPT;
	case PREFIX:
		return sector < fates->number ? FATE_KEPT : FATE_LOST;
	case RANDOM:
		fates->random = fates->random * 6364136223846793005u + 1442695040888963407u;
		return (enum memory_fate)((fates->random >> 33) % FATES);
	}
	return FATE_LOST;
}

static uint64_t power(uint64_t base, unsigned exponent)
{
	uint64_t result = 1;
	while (exponent-- > 0)
		result *= base;
	return result;
}

static void describe_failure(const char *what, uint64_t at, const struct fates *fates, const char *wrong)
{
	fail_msg("%s: died before operation %llu, fates %d/%llu/%llu: %s", what, (unsigned long long)at,
		 (int)fates->how, (unsigned long long)fates->number, (unsigned long long)fates->random, wrong);
}

/* One crash with one fate, and the same with a second crash inside recovery. */
static void try_fate(const struct run *run, uint64_t at, const struct fates *fates, bool crash_recovery)
{
	struct fates copy = *fates;
	struct memory_disk *disk = memory_disk_clone(run->disk);
	memory_disk_crash(disk, choose, &copy);
	for (uint64_t k = 0; crash_recovery && k < 6; k++) {
		struct memory_disk *twice = memory_disk_clone(disk);
		struct fates second = {.how = RANDOM, .random = at * 31 + k};
		const char *wrong = verify(twice, &run->history, k);
		memory_disk_crash(twice, choose, &second);
		if (!wrong)
			wrong = verify(twice, &run->history, UINT64_MAX);
		if (wrong)
			describe_failure("twice", at, fates, wrong);
		memory_disk_free(twice);
	}
	const char *wrong = verify(disk, &run->history, UINT64_MAX);
	if (wrong)
		describe_failure("once", at, fates, wrong);
	memory_disk_free(disk);
}

static void try_fates(const struct run *run, uint64_t at)
{
	unsigned n = memory_disk_unsynced(run->disk);
	struct fates fates = {.how = ALL_SAME};
	for (; fates.number < FATES; fates.number++)
		try_fate(run, at, &fates, true);
	if (n <= EXHAUSTIVE_MAX) {
		fates = (struct fates){.how = ALL_COMBINATIONS};
		for (; fates.number < power(FATES, n); fates.number++)
			try_fate(run, at, &fates, false);
		return;
	}
	fates = (struct fates){.how = ONE_DIFFERS};
	for (; fates.number < 2u * (n < 16 ? n : 16); fates.number++)
		try_fate(run, at, &fates, false);
	fates = (struct fates){.how = PREFIX};
	for (; fates.number < n; fates.number += 1 + n / 16)
		try_fate(run, at, &fates, false);
	fates = (struct fates){.how = RANDOM, .random = at};
	for (; fates.number < RANDOM_FATES; fates.number++, fates.random += 0x9e3779b97f4a7c15u)
		try_fate(run, at, &fates, false);
}

static void power_failure_at_every_operation(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	assert_non_null(run);
	uint64_t at = 0;
	bool died = true;
	for (; died; at++) {
		memset(&run->history, 0, sizeof(run->history));
		run->disk = memory_disk_new();
		struct disk *handle = memory_disk_open(run->disk);
		(void)handle;
		memory_disk_die_at(run->disk, at);
		load(run, 48);
		died = memory_disk_is_dead(run->disk);
		if (died)
			try_fates(run, at);
		run->disk = memory_disk_free(run->disk);
	}
	assert_true(at > 100); /* the load did something */
	assert_true(run->history.base > 0);
	assert_int_equal(run->history.durable, 48);
	free(run);
}

/* The process dies and the machine lives: recovery sees everything, promises it, and then the power fails.  Whatever was
 * reported must be there: it may not rest on a page cache. */
static void power_failure_after_recovering_from_a_kill(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	struct storage_options options = log_fixture_options(SEGMENT);
	char message[STORAGE_MESSAGE_MAX];
	assert_non_null(run);
	bool died = true;
	for (uint64_t at = 0; died; at++) {
		memset(&run->history, 0, sizeof(run->history));
		run->disk = memory_disk_new();
		memory_disk_die_at(run->disk, at);
		load(run, 48);
		died = memory_disk_is_dead(run->disk);
		memory_disk_kill(run->disk);
		struct storage *storage = NULL;
		struct storage_state found;
		struct storage_state again;
		struct fates lost = {.how = ALL_SAME, .number = FATE_LOST};
		assert_int_equal(storage_open(memory_disk_open(run->disk), &options, &storage, &found, message), 0);
		assert_null(judge(&run->history, storage, &found));
		storage_free(storage);
		memory_disk_crash(run->disk, choose, &lost);
		assert_int_equal(storage_open(memory_disk_open(run->disk), &options, &storage, &again, message), 0);
		assert_int_equal(again.last_index, found.last_index);
		assert_int_equal(again.term, found.term);
		assert_int_equal(again.vote, found.vote);
		storage_free(storage);
		run->disk = memory_disk_free(run->disk);
	}
	free(run);
}

/* A sync fails, and as kernels do, the page cache keeps showing what is not on the disk.  The member stops, starts
 * again, believes what it reads: then that must be made durable before it is reported. */
static void failed_sync_shows_nothing_that_is_not_kept(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	struct storage_options options = log_fixture_options(SEGMENT);
	char message[STORAGE_MESSAGE_MAX];
	assert_non_null(run);
	for (uint64_t before = 0; before < 40; before++) {
		struct storage *storage = NULL;
		struct storage_state found;
		memset(&run->history, 0, sizeof(run->history));
		run->disk = memory_disk_new();
		load(run, before);
		assert_int_equal(storage_open(memory_disk_open(run->disk), &options, &storage, &found, message), 0);
		(void)log_fixture_drain(storage, run->disk, 1);
		struct log_model *model = &run->history.after[before + 1];
		*model = run->history.after[before];
		struct log_write write = script(model, before + 1);
		assert_int_equal(log_fixture_append(storage, model, &write), 0);
		run->history.written = before + 1;
		memory_disk_fail_sync(run->disk);
		assert_true(log_fixture_drain(storage, run->disk, 1) < 0);
		storage_free(storage);
		memory_disk_kill(run->disk);

		assert_int_equal(storage_open(memory_disk_open(run->disk), &options, &storage, &found, message), 0);
		assert_null(judge(&run->history, storage, &found));
		storage_free(storage);
		struct storage_state again;
		struct fates lost = {.how = ALL_SAME, .number = FATE_LOST};
		memory_disk_crash(run->disk, choose, &lost);
		assert_int_equal(storage_open(memory_disk_open(run->disk), &options, &storage, &again, message), 0);
		assert_int_equal(again.last_index, found.last_index);
		assert_int_equal(again.term, found.term);
		storage_free(storage);
		run->disk = memory_disk_free(run->disk);
	}
	free(run);
}

/* A torn record is cut; later, a torn write of other entries happens to write just the sectors that it lacked. It must
 * not come back. */
static void torn_record_never_comes_back(void **state)
{
	(void)state;
	struct storage_options options = log_fixture_options(SEGMENT);
	char message[STORAGE_MESSAGE_MAX];
	struct storage *storage = NULL;
	struct storage_state found;
	struct log_model *model = calloc(1, sizeof(*model));
	struct memory_disk *disk = memory_disk_new();
	assert_non_null(model);
	assert_int_equal(storage_open(memory_disk_open(disk), &options, &storage, &found, message), 0);
	assert_int_equal(log_fixture_drain(storage, disk, 1), 0);
	for (unsigned life = 0; life < 2; life++) {
		/* The same entry both times, under another term of the member: only the first sector differs. */
		struct log_write write = {
			.seq = 1, .term = 1, .vote = 1 + life, .n_entries = 1, .size = 3000, .salt = 1};
		struct fates torn = {.how = ONE_DIFFERS, .number = 2 * 3 + 1}; /* sector 3 is lost … */
		struct fates rest = {.how = ALL_SAME, .number = FATE_LOST};
		assert_int_equal(log_fixture_append(storage, model, &write), 0);
		assert_int_equal(storage_process(storage, 1), 0);
		assert_true(memory_disk_step(disk, DISK_LANE_LOG));
		storage_free(storage);
		if (life == 0) {
			memory_disk_crash(disk, choose, &torn);
		} else {
			/* … and the second time all but sector 3. */
			uint8_t sector[512];
			memcpy(sector, memory_disk_contents(disk, "segment-0000000000000001", NULL) + 4096 + 3 * 512,
			       512);
			memory_disk_crash(disk, choose, &rest);
			memcpy(memory_disk_contents(disk, "segment-0000000000000001", NULL) + 4096 + 3 * 512, sector,
			       512);
			memory_disk_settle(disk);
		}
		assert_int_equal(storage_open(memory_disk_open(disk), &options, &storage, &found, message), 0);
		assert_int_equal(found.last_index, 0);
		assert_int_equal(found.vote, 0);
		assert_int_equal(found.torn_bytes > 0, life == 0);
		assert_int_equal(strcmp(found.torn_where, life == 0 ? "segment-0000000000000001 offset 4096" : ""), 0);
		model->last = 0;
	}
	storage_free(storage);
	memory_disk_free(disk);
	free(model);
}

/* Damage ---------------------------------------------------------------------------------------------------- */

/* Where each record of the log begins and how long it is, found by its header's magic and length. */
struct place {
	char name[DISK_NAME_MAX + 1];
	uint64_t offset;
	uint32_t length;
};

static unsigned find_records(struct memory_disk *disk, struct place *places, unsigned max)
{
	unsigned n = 0;
	for (uint64_t sequence = 1;; sequence++) {
		char name[DISK_NAME_MAX + 1];
		(void)snprintf(name, sizeof(name), "segment-%016llx", (unsigned long long)sequence);
		const uint8_t *bytes = memory_disk_contents(disk, name, NULL);
		if (!bytes)
			return n;
		for (uint64_t at = 4096; at < SEGMENT && memcmp(bytes + at, "RKFR", 4) == 0 && n < max;) {
			uint32_t length;
			memcpy(&length, bytes + at + 8, sizeof(length));
			memcpy(places[n].name, name, sizeof(name));
			places[n].offset = at;
			places[n++].length = length;
			at += length;
		}
	}
}

static void flipped_bit_in_any_record_but_the_last_is_damage(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	struct place places[128];
	struct storage_options options = log_fixture_options(SEGMENT);
	assert_non_null(run);
	run->disk = memory_disk_new();
	load(run, 14);
	memory_disk_settle(run->disk);
	unsigned n = find_records(run->disk, places, 128);
	assert_true(n > 5);
	assert_int_not_equal(strcmp(places[0].name, places[n - 1].name), 0); /* more than one segment */
	for (unsigned i = 0; i < n; i++) {
		for (uint64_t byte = 0; byte < places[i].length; byte += byte < 96 ? 1 : 61) {
			uint8_t *bytes = memory_disk_contents(run->disk, places[i].name, NULL);
			struct storage *storage = NULL;
			struct storage_state found;
			char message[STORAGE_MESSAGE_MAX];
			char where[128];
			struct memory_disk *disk;
			bytes[places[i].offset + byte] ^= (uint8_t)(1u << byte % 8);
			disk = memory_disk_clone(run->disk);
			bytes[places[i].offset + byte] ^= (uint8_t)(1u << byte % 8);
			int r = storage_open(memory_disk_open(disk), &options, &storage, &found, message);
			if (i + 1 < n) {
				(void)snprintf(where, sizeof(where), "%.63s offset %llu:", places[i].name,
					       (unsigned long long)places[i].offset);
				assert_int_equal(r, STORAGE_E_CORRUPT);
				assert_non_null(strstr(message, where));
				assert_null(storage);
			} else {
				assert_int_equal(r, 0); /* looks like a torn tail, and is cut */
				storage_free(storage);
			}
			memory_disk_free(disk);
		}
	}
	memory_disk_free(run->disk);
	free(run);
}

static void flipped_bit_in_any_header_is_damage(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	struct storage_options options = log_fixture_options(SEGMENT);
	assert_non_null(run);
	run->disk = memory_disk_new();
	load(run, 14);
	for (uint64_t sequence = 1; sequence <= 2; sequence++) {
		char name[DISK_NAME_MAX + 1];
		(void)snprintf(name, sizeof(name), "segment-%016llx", (unsigned long long)sequence);
		for (uint64_t byte = 0; byte < 4096; byte += byte < 128 ? 1 : 97) {
			struct storage *storage = NULL;
			struct storage_state found;
			char message[STORAGE_MESSAGE_MAX];
			struct memory_disk *disk = memory_disk_clone(run->disk);
			memory_disk_contents(disk, name, NULL)[byte] ^= (uint8_t)(1u << byte % 8);
			assert_int_equal(storage_open(memory_disk_open(disk), &options, &storage, &found, message),
					 STORAGE_E_CORRUPT);
			assert_non_null(strstr(message, name));
			memory_disk_free(disk);
		}
	}
	memory_disk_free(run->disk);
	free(run);
}

/* Bytes, sectors, whole pieces of other places, shortened files: opening refuses or cuts, and what it then hands out is
 * what was written. */
static void any_damage_is_survived(void **state)
{
	(void)state;
	struct run *run = calloc(1, sizeof(*run));
	struct storage_options options = log_fixture_options(SEGMENT);
	uint64_t random = 7;
	unsigned opened = 0;
	assert_non_null(run);
	run->disk = memory_disk_new();
	load(run, 14);
	const struct log_model *model = &run->history.after[14];
	for (unsigned i = 0; i < 1000; i++) {
		struct memory_disk *disk = memory_disk_clone(run->disk);
		struct storage *storage = NULL;
		struct storage_state found;
		char message[STORAGE_MESSAGE_MAX];
		int error = 0;
		for (unsigned k = 0; k < 1 + i % 4; k++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			char name[DISK_NAME_MAX + 1];
			(void)snprintf(name, sizeof(name), "segment-%016x", 1 + (unsigned)(random >> 62) % 2);
			uint8_t *bytes = memory_disk_contents(disk, name, NULL);
			size_t at = (size_t)(random >> 20) % (SEGMENT / 512) * 512;
			size_t from = (size_t)(random >> 30) % (SEGMENT / 512) * 512;
			switch ((random >> 40) % 4) {
			case 0:
				bytes[at + (random >> 50) % 96] ^= (uint8_t)(1 + random % 255);
				break;
			case 1:
				memset(bytes + at, 0, 512);
				break;
			case 2:
				memmove(bytes + at, bytes + from, SEGMENT - (at > from ? at : from));
				break;
			default:
				memory_disk_truncate(disk, name, at);
				k = 4; /* further damage could lie behind the end */
				break;
			}
		}
		int r = storage_open(memory_disk_open(disk), &options, &storage, &found, message);
		assert_true(r == 0 || r == STORAGE_E_CORRUPT);
		if (r == 0 && found.last_index > 0 && found.last_index == model->last) {
			assert_int_equal(log_fixture_compare(storage, model, 1, found.last_index, 100, &error), 0);
			opened++;
		}
		storage_free(storage);
		memory_disk_free(disk);
	}
	assert_true(opened > 10 && opened < 990);
	memory_disk_free(run->disk);
	free(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_failure_at_every_operation),
		cmocka_unit_test(power_failure_after_recovering_from_a_kill),
		cmocka_unit_test(failed_sync_shows_nothing_that_is_not_kept),
		cmocka_unit_test(torn_record_never_comes_back),
		cmocka_unit_test(flipped_bit_in_any_record_but_the_last_is_damage),
		cmocka_unit_test(flipped_bit_in_any_header_is_damage),
		cmocka_unit_test(any_damage_is_survived),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
