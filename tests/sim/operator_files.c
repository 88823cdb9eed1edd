/*
 * What operators do with files: a backup is loaded and compared, copies of it that were damaged or made up are refused, a
 * stopped member's directory is checked as `raftctl check` does before the member is started again.
 */
#include "operator.h"

#include "check.h"
#include "codec.h"

#include "daemon/assert.h"
#include "daemon/storage/check.h"
#include "kv/backup.h"
#include "kv/bytes.h"
#include "kv/snapshot_format.h"
#include "kv/snapshot_stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DAMAGED_COPIES 3u
#define FORGED_COPIES 12u

/* Backups --------------------------------------------------------------------------------------------- */

/* A store, or NULL and why not. The bytes come in pieces of any size. */
static struct kv_store *load(const struct sim *sim, struct sim_random *random, const uint8_t *bytes, size_t size,
			     int *ret_result)
{
	struct kv_store_loader *loader = kv_store_load_new();
	struct kv_store *store = NULL;
	size_t piece = 1 + sim_random_below(random, 2 * SIM_PAGE_BYTES);
	raft_assert(loader != NULL);
	*ret_result = KV_LOAD_OK;
	for (size_t at = 0; at < size && *ret_result == KV_LOAD_OK; at += piece)
		*ret_result = kv_store_load_feed(loader, bytes + at, size - at < piece ? size - at : piece);
	if (*ret_result == KV_LOAD_OK)
		*ret_result = kv_store_load_finish(loader, &store);
	if (kv_store_load_offset(loader) > size)
		sim_fail(sim, "%zu bytes of a backup are refused behind their end", size);
	kv_store_load_free(loader);
	return store;
}

/* The same state gives the same bytes. */
static void check_bytes(const struct sim *sim, struct kv_store *store, const uint8_t *bytes, size_t size)
{
	struct kv_snapshot *snapshot = kv_store_snapshot(store);
	struct kv_snapshot_stream *stream = kv_snapshot_stream_new(snapshot);
	uint8_t *again = malloc(size + 1);
	raft_assert(snapshot != NULL && stream != NULL && again != NULL);
	if (kv_snapshot_stream_size(snapshot) != size || kv_snapshot_stream_read(stream, again, size + 1) != size ||
	    memcmp(bytes, again, size) != 0)
		sim_fail(sim, "a state of %zu bytes is written in another way after it was loaded", size);
	free(again);
	kv_snapshot_stream_free(stream);
	kv_snapshot_free(snapshot);
}

struct restored {
	struct sim *sim;
	unsigned member; /* that the backup came from */
	const struct kv_store *store;
	uint64_t applied;
};

static bool check_record(void *arg, const struct kv_item *item)
{
	const struct restored *restored = arg;
	sim_operator_check_value(restored->sim, restored->member, item->revision, item->value, item->value_size);
	return true;
}

/* What the model has and was there when the backup was made is in it. */
static void check_model_key(void *arg, const uint8_t *key, uint16_t key_size, uint64_t revision, uint64_t value)
{
	const struct restored *restored = arg;
	struct kv_value found;
	if (revision <= restored->applied &&
	    (!kv_store_get(restored->store, key, key_size, &found) || found.revision != revision ||
	     model_hash(found.data, found.size) != value))
		sim_fail(restored->sim, "the backup of entry %" PRIu64 " lacks what entry %" PRIu64 " wrote",
			 restored->applied, revision);
}

/* Key by key, with a store that has nothing in common with this one. */
static void check_model(struct sim *sim, unsigned member, struct kv_store *store, uint64_t applied)
{
	struct restored restored = {sim, member, store, applied};
	struct kv_snapshot *snapshot = kv_store_snapshot(store);
	raft_assert(snapshot != NULL);
	if (applied <= sim->checks->modelled)
		model_each_key(sim->checks->model, check_model_key, &restored);
	kv_snapshot_walk(snapshot, NULL, 0, false, check_record, &restored);
	kv_snapshot_free(snapshot);
}

static void check_good(struct sim *sim, struct sim_random *random, unsigned member, uint64_t applied,
		       const uint8_t *bytes, size_t size)
{
	struct kv_stats stats;
	int result;
	struct kv_store *store = load(sim, random, bytes, size, &result);
	if (store == NULL)
		sim_fail(sim, "the backup of entry %" PRIu64 " cannot be loaded: %s", applied,
			 kv_load_result_name(result));
	kv_store_check(store);
	kv_store_stats(store, &stats);
	if (stats.applied != applied || (applied >= sim->checks->floor && applied <= sim->checks->committed_last &&
					 kv_store_hash(store) != sim_check_state_at(sim->checks, applied)))
		sim_fail(sim, "the backup of entry %" PRIu64 " holds another state", applied);
	check_model(sim, member, store, applied);
	check_bytes(sim, store, bytes, size);
	kv_store_free(store);
}

/* Flips bits, or cuts, or adds: the checksum finds it. */
static void check_damaged(struct sim *sim, struct sim_random *random, const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size + 1);
	size_t damaged = size;
	int result;
	raft_assert(copy != NULL);
	memcpy(copy, bytes, size);
	copy[size] = 0;
	uint64_t how = sim_random_below(random, 4);
	if (how == 0)
		damaged = sim_random_below(random, size);
	else if (how == 1)
		damaged = size + 1;
	else
		copy[sim_random_below(random, size)] ^= (uint8_t)(1u << sim_random_below(random, 8));
	struct kv_store *store = load(sim, random, copy, damaged, &result);
	if (store != NULL)
		sim_fail(sim, "a damaged backup of %zu bytes is loaded", size);
	sim_note(sim, "a damaged backup is refused: %s", kv_load_result_name(result));
	free(copy);
}

/* Where an item begins: 0 is the header, then come sessions and records. */
static size_t item_at(const uint8_t *bytes, size_t size, uint64_t number)
{
	uint32_t sessions = kv_take_u32(bytes + KV_SNAPSHOT_OFFSET_SESSIONS);
	size_t end = size - KV_SNAPSHOT_END_SIZE;
	size_t at = 0;
	for (uint64_t k = 0; k < number && at < end; k++) {
		const uint8_t *item = bytes + at;
		if (k == 0)
			at += KV_SNAPSHOT_HEADER_SIZE;
		else if (k <= sessions)
			at += KV_SNAPSHOT_SESSION_SIZE + (kv_take_u64(item + KV_SNAPSHOT_SESSION_OFFSET_LAST) + 1 -
							  kv_take_u64(item + KV_SNAPSHOT_SESSION_OFFSET_ACKNOWLEDGED)) *
								 KV_SNAPSHOT_REPLY_SIZE;
		else
			at += KV_RECORD_IMAGE_OFFSET_KEY + (size_t)kv_take_u16(item + KV_RECORD_IMAGE_OFFSET_KEY_SIZE) +
			      kv_take_u32(item + KV_RECORD_IMAGE_OFFSET_VALUE_SIZE);
	}
	return at;
}

/* Changes a number and makes the checksum good again, as a program with a bug would. What is taken all the same must be a whole
 * store, and written just like this. */
static void check_forged(struct sim *sim, struct sim_random *random, const uint8_t *bytes, size_t size)
{
	uint8_t *copy = malloc(size);
	size_t end = size - KV_SNAPSHOT_END_SIZE;
	int result;
	raft_assert(copy != NULL);
	memcpy(copy, bytes, size);
	uint64_t items =
		1 + kv_take_u32(bytes + KV_SNAPSHOT_OFFSET_SESSIONS) + kv_take_u64(bytes + KV_SNAPSHOT_OFFSET_KEYS);
	size_t at = item_at(bytes, size, sim_random_below(random, 4) == 0 ? 0 : sim_random_below(random, items));
	at += sim_random_below(random, KV_SNAPSHOT_SESSION_SIZE + KV_SNAPSHOT_REPLY_SIZE);
	if (at < end)
		copy[at] ^= (uint8_t)(1u << sim_random_below(random, 8));
	kv_put_u64(copy + end + KV_SNAPSHOT_END_OFFSET_CHECKSUM, XXH3_64bits(copy, end));
	struct kv_store *store = load(sim, random, copy, size, &result);
	if (store != NULL) {
		kv_store_check(store);
		check_bytes(sim, store, copy, size);
	} else {
		sim_note(sim, "a made-up backup is refused: %s", kv_load_result_name(result));
	}
	kv_store_free(store);
	free(copy);
}

/* The file that raftctl writes has a header in front. */
static void check_header(struct sim *sim, struct sim_random *random, uint64_t applied, const uint8_t *bytes,
			 size_t size)
{
	uint8_t head[KV_BACKUP_HEADER_SIZE];
	struct kv_backup_header read;
	const struct kv_backup_header header = {
		.cluster = SIM_CLUSTER, .applied = applied, .size = size, .checksum = XXH3_64bits(bytes, size)};
	kv_backup_header_encode(head, &header);
	int r = kv_backup_header_decode(head, sizeof head, &read);
	if (r != KV_BACKUP_OK || read.cluster != header.cluster || read.applied != header.applied ||
	    read.size != header.size || read.checksum != header.checksum)
		sim_fail(sim, "the head of a backup cannot be read: %s", kv_backup_result_name(r));
	for (unsigned k = 0; k < DAMAGED_COPIES; k++)
		sim_codec_distort(sim, random, SIM_CODEC_BACKUP_HEADER, head, sizeof head);
	head[sim_random_below(random, sizeof head)] ^= (uint8_t)(1u << sim_random_below(random, 8));
	r = kv_backup_header_decode(head, sizeof head, &read);
	if (r == KV_BACKUP_OK)
		sim_fail(sim, "the damaged head of a backup is taken");
	sim_note(sim, "the damaged head of a backup: %s", kv_backup_result_name(r));
}

void sim_operator_restore(struct sim *sim, struct sim_random *random, unsigned member, uint64_t applied,
			  const uint8_t *bytes, size_t size)
{
	check_good(sim, random, member, applied, bytes, size);
	check_header(sim, random, applied, bytes, size);
	for (unsigned k = 0; k < DAMAGED_COPIES; k++)
		check_damaged(sim, random, bytes, size);
	for (unsigned k = 0; k < FORGED_COPIES; k++)
		check_forged(sim, random, bytes, size);
	sim->counts.backups++;
}

/* Directories ----------------------------------------------------------------------------------------- */

struct inspection {
	struct sim *sim;
	unsigned member;
};

static void report(void *arg, enum storage_finding finding, const char *file, uint64_t offset, const char *what)
{
	const struct inspection *inspection = arg;
	sim_note(inspection->sim, "%u check: %s %s at %" PRIu64 ": %s", inspection->member + 1,
		 finding == STORAGE_FINDING_DAMAGE ? "damage" : "note", file, offset, what);
}

/* What is there to start from, before the start, and what had gone wrong by then. */
struct before {
	uint64_t base_index;	 /* where the log begins, says the check */
	uint64_t snapshots;	 /* that the log leads on from */
	uint64_t read_errors;	 /* so far … */
	uint64_t states_refused; /* … and states that no member could load */
};

static void count_snapshot(void *arg, const char *name, uint64_t size)
{
	struct before *before = arg;
	uint64_t index;
	(void)size;
	before->snapshots += sim_snapshot_parse_name(name, &index) && index >= before->base_index;
}

static struct before look_before(const struct sim *sim, unsigned number, const struct storage_check *check)
{
	struct disk *files = sim->members[number].disk_files;
	struct before before = {.base_index = check->base_index,
				.read_errors = sim->counts.read_errors,
				.states_refused = sim->counts.states_refused};
	int r = files->ops->list(files, count_snapshot, &before);
	raft_assert(r == 0);
	return before;
}

/* That they cannot be loaded only a start finds out. */
static bool are_all_refused(const struct sim *sim, const struct before *before)
{
	uint64_t refused = sim->counts.states_refused - before->states_refused;
	return refused > 0 && refused >= before->snapshots;
}

/* The member has started. A snapshot that the check could read and the start could not, or could not load, is passed over, and what
 * the log does not lead to with it; if none is left that the log leads on from, the directory is given up. That the member has all
 * that its log holds is what check.c says. */
static void compare_start(const struct sim *sim, unsigned number, const struct storage_check *check,
			  const struct before *before)
{
	struct raft_status status;
	raft_get_status(replica_core(sim->members[number].replica), &status);
	bool all_refused = are_all_refused(sim, before);
	if (status.base_index < check->base_index && (sim->counts.read_errors > before->read_errors || all_refused))
		return;
	if (status.last_index < check->last_index)
		sim_fail(sim, "member %u has entries up to %" PRIu64 ", the check has found %" PRIu64, number + 1,
			 status.last_index, check->last_index);
}

/* Stops the member, unless it is down, checks its directory and starts it: nothing is damaged that was not, and a
 * directory without damage is one to start from, with all that the check has found in it, as long as it can be read. */
int sim_operator_check(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	struct inspection inspection = {sim, number};
	struct storage_check check = {.report = report, .arg = &inspection};
	if (member->absent || member->removed)
		return 0;
	if (member->up)
		sim_member_crash(sim, number, SIM_KILL);
	uint64_t errors = sim->counts.read_errors;
	int r = storage_check(member->disk_files, &check);
	bool unread = sim->counts.read_errors > errors;
	sim_note(sim, "%u check: %s, entries %" PRIu64 " to %" PRIu64, number + 1, storage_result_name(r),
		 check.base_index + 1, check.last_index);
	if (r < 0 || (r > 0 && !unread && !sim_platter_damaged(member->disk_files)))
		sim_fail(sim, "the check of member %u finds damage where there is none: %d", number + 1, r);
	if (member->lost && (r != 0 || sim_check_is_forgotten(sim, number)))
		return 1;
	member->lost = false; /* what rots twice may be whole again: the operator sees it, and starts the member */
	uint64_t misdirected =
		sim->counts.misdirected_writes; /* what the start writes may go astray, and it reads on */
	struct before before = look_before(sim, number, &check);
	sim_member_start(sim, number);
	if (r == 0 && member->lost && sim->counts.misdirected_writes == misdirected && !are_all_refused(sim, &before))
		sim_fail(sim, "member %u found damage in its directory after the check found none", number + 1);
	if (r == 0 && member->up)
		compare_start(sim, number, &check, &before);
	return 1;
}
