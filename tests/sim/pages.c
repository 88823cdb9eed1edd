/*
 * What a member answers to operators: its status and health, its beats, the membership, pages of its log and of its state, pieces of a backup. What
 * daemon/pages.c and daemon/admin.c do in raftd, filled in by the same daemon/answers.c, with smaller pages, so that small states
 * have several.
 *
 * Must not know whether the answers are right: operator.c looks at them.
 */
#include "operator.h"

#include "daemon/answers.h"
#include "daemon/assert.h"
#include "kv/admin.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define LOG_ENTRIES_MAX 64u
#define LAG_MAX 64u /* entries committed and not applied */
#define DISK_ALIVE_US 1000000u

/* The request that is being answered, and the frame that takes the answer. */
struct question {
	const struct sim *sim;
	unsigned number;
	struct sim_member *member;
	const struct kv_frame_item *item;
	struct kv_frame *reply;
};

static void answer_plain(const struct question *question, enum kv_answer answer)
{
	const struct kv_answer_body body = {.answer = (uint8_t)answer};
	uint8_t *bytes = kv_frame_add(question->reply, question->item->id, 0, KV_REPLY_BODY_SIZE(0));
	raft_assert(bytes != NULL);
	kv_reply_encode(bytes, &body);
}

/* The place for the answer's data. */
static uint8_t *answer_data(const struct question *question, size_t size)
{
	const struct kv_answer_body body = {.answer = KV_ANSWER_OK};
	uint8_t *bytes = kv_frame_add(question->reply, question->item->id, 0, KV_REPLY_BODY_SIZE(size));
	raft_assert(bytes != NULL);
	kv_reply_encode(bytes, &body);
	return bytes + KV_REPLY_HEADER_SIZE;
}

/* As daemon/health.c, with less patience. */
static uint64_t failed_checks(const struct question *question, const struct replicator_status *status)
{
	const struct storage *storage = replica_storage(question->member->replica);
	return (storage_oldest_write_age_us(storage) >= DISK_ALIVE_US ? KV_CHECK_DISK : 0) |
	       (sim_member_loads(question->sim, question->number) ? KV_CHECK_RECOVERED : 0) |
	       (status->blank ? KV_CHECK_MEMBER : 0) | (status->leader == 0 ? KV_CHECK_LEADER : 0) |
	       (status->commit - status->applied > LAG_MAX ? KV_CHECK_APPLIED : 0);
}

static uint64_t alarms(const struct question *question)
{
	const struct storage *storage = replica_storage(question->member->replica);
	const struct sim_plan *plan = &question->sim->plan;
	struct storage_stats stats;
	storage_get_stats(storage, &stats);
	return (stats.full ? KV_ALARM_DISK_FULL : 0) |
	       (storage_oldest_write_age_us(storage) > plan->election_min_us + plan->election_spread_us
			? KV_ALARM_DISK_STALLED
			: 0);
}

static void answer_status(const struct question *question)
{
	char version[SIM_VERSION_SIZE];
	struct replicator_status status;
	struct kv_member_status answer;
	replica_get_status(question->member->replica, &status);
	answers_status(&status, question->member->store, &answer);
	sim_level_version(question->sim, question->number, version);
	answer.version = kv_version_number(version);
	answer.failed_checks = failed_checks(question, &status);
	answer.alarms = alarms(question);
	kv_status_encode(answer_data(question, KV_STATUS_SIZE), &answer);
}

static void answer_members(const struct question *question)
{
	struct replicator_membership from;
	struct kv_membership to;
	replica_get_membership(question->member->replica, &from);
	answers_membership(&from, &to);
	kv_membership_encode(answer_data(question, kv_membership_size(&to)), &to);
}

static void answer_beats(const struct question *question)
{
	struct replica *replica = question->member->replica;
	struct replicator_beat beats[KV_BEATS_MAX];
	struct raft_status status;
	uint64_t after;
	if (!kv_beats_request_decode(question->item->body, question->item->size, &after)) {
		answer_plain(question, KV_ANSWER_BAD_REQUEST);
		return;
	}
	raft_get_status(replica_core(replica), &status);
	struct kv_beats answer = {.id = question->number + 1,
				  .role = status.role,
				  .term = status.hard_state.term,
				  .leader = status.leader,
				  .heartbeat_us = question->sim->plan.heartbeat_us,
				  .voters = status.n_voters,
				  .newest = status.beat};
	unsigned n = replica_get_beats(replica, sim_clock_us(question->sim, question->number), after, beats, KV_BEATS_MAX);
	answers_beats(beats, n, &answer);
	kv_beats_encode(answer_data(question, kv_beats_size(&answer)), &answer);
}

/* A stale read, from what the member has applied. */
static void answer_get(const struct question *question)
{
	uint8_t flags;
	const uint8_t *key;
	size_t key_size;
	struct kv_value value;
	if (!kv_get_decode(question->item->body, question->item->size, &flags, &key, &key_size) || flags != KV_GET_STALE) {
		answer_plain(question, KV_ANSWER_BAD_REQUEST);
		return;
	}
	if (!kv_store_get(question->member->store, key, key_size, &value)) {
		answer_plain(question, KV_ANSWER_NOT_FOUND);
		return;
	}
	const struct kv_answer_body body = {
		.answer = KV_ANSWER_OK, .number = value.revision, .data = value.data, .size = value.size};
	uint8_t *bytes = kv_frame_add(question->reply, question->item->id, 0, KV_REPLY_BODY_SIZE(value.size));
	raft_assert(bytes != NULL);
	kv_reply_encode(bytes, &body);
}

/* The log --------------------------------------------------------------------------------------------- */

static void answer_log(const struct question *question)
{
	struct raft_entry entries[LOG_ENTRIES_MAX];
	struct replicator_status status;
	uint64_t first;
	uint32_t most, n = 0;
	if (!kv_log_decode(question->item->body, question->item->size, &first, &most)) {
		answer_plain(question, KV_ANSWER_BAD_REQUEST);
		return;
	}
	replica_get_status(question->member->replica, &status);
	if (first < status.first_index)
		first = status.first_index;
	if (most > LOG_ENTRIES_MAX)
		most = LOG_ENTRIES_MAX;
	if (replica_read_log(question->member->replica, first, entries, most, SIM_PAGE_BYTES, &n) != 0) {
		answer_plain(question, KV_ANSWER_BUSY); /* its disk fails */
		return;
	}
	const struct kv_log_page page = {
		.last = status.last_index, .commit = status.commit, .first = first, .count = n};
	answers_log_write(&page, entries, answer_data(question, answers_log_size(entries, n)));
}

/* The state, which a pin keeps from page to page ------------------------------------------------------- */

static const struct kv_snapshot *pin(const struct question *question, uint64_t applied)
{
	struct sim_member *member = question->member;
	if (applied == 0)
		return kv_pins_take(&member->pins, member->store);
	const struct kv_snapshot *snapshot = kv_pins_find(&member->pins, member->store, applied);
	if (snapshot == NULL)
		answer_plain(question, KV_ANSWER_NOT_FOUND);
	return snapshot;
}

static void answer_dump(const struct question *question)
{
	struct kv_dump_request request;
	if (!kv_dump_decode(question->item->body, question->item->size, &request)) {
		answer_plain(question, KV_ANSWER_BAD_REQUEST);
		return;
	}
	const struct kv_snapshot *snapshot = pin(question, request.applied);
	if (snapshot == NULL)
		return;
	struct kv_dump_page page;
	size_t size = answers_dump_measure(snapshot, &request, SIM_PAGE_BYTES, &page);
	answers_dump_write(snapshot, &request, &page, answer_data(question, size), size);
}

static void answer_backup(const struct question *question)
{
	struct kv_backup_request request;
	uint8_t bytes[KV_BACKUP_DATA_HEADER_SIZE + SIM_PAGE_BYTES];
	size_t size = 0;
	if (!kv_backup_decode(question->item->body, question->item->size, &request) ||
	    (request.pin == 0 && request.offset != 0) || request.size == 0) {
		answer_plain(question, KV_ANSWER_BAD_REQUEST);
		return;
	}
	const struct kv_snapshot *snapshot = pin(question, request.pin);
	if (snapshot == NULL)
		return;
	uint64_t applied = kv_snapshot_applied(snapshot);
	size_t capacity = request.size < SIM_PAGE_BYTES ? request.size : SIM_PAGE_BYTES;
	int r = kv_pins_read(&question->member->pins, question->member->store, applied, request.offset,
			     bytes + KV_BACKUP_DATA_HEADER_SIZE, capacity, &size);
	if (r != KV_PINS_OK) {
		answer_plain(question, r == KV_PINS_GONE ? KV_ANSWER_NOT_FOUND : KV_ANSWER_BUSY);
		return;
	}
	uint64_t total = htole64(kv_snapshot_stream_size(snapshot));
	memcpy(bytes, &total, sizeof total);
	const struct kv_answer_body body = {.answer = KV_ANSWER_OK,
					    .number = applied,
					    .data = bytes,
					    .size = (uint32_t)(KV_BACKUP_DATA_HEADER_SIZE + size)};
	uint8_t *reply = kv_frame_add(question->reply, question->item->id, 0, KV_REPLY_BODY_SIZE(body.size));
	raft_assert(reply != NULL);
	kv_reply_encode(reply, &body);
}

/* Everything ------------------------------------------------------------------------------------------ */

void sim_pages_answer(struct sim *sim, unsigned member, const struct kv_frame_item *item, struct kv_frame *reply)
{
	const struct question question = {
		.sim = sim, .number = member, .member = &sim->members[member], .item = item, .reply = reply};
	switch (item->type) {
	case KV_REQUEST_STATUS:
		answer_status(&question);
		return;
	case KV_REQUEST_MEMBERS:
		answer_members(&question);
		return;
	case KV_REQUEST_GET:
		answer_get(&question);
		return;
	case KV_REQUEST_LOG:
		answer_log(&question);
		return;
	case KV_REQUEST_BEATS:
		answer_beats(&question);
		return;
	case KV_REQUEST_DUMP:
		answer_dump(&question);
		return;
	case KV_REQUEST_BACKUP:
		answer_backup(&question);
		return;
	default:
		break; /* not asked in this way */
	}
	abort();
}
