/*
 * Operators, while everything else goes on: they look at members' states, logs and memberships, dump a store page by page and
 * back it up piece by piece, from one member or several. Whatever they are told is compared with what the checks know.
 *
 * All of it is what raftctl does, in the frames that it sends. What operators do with files is in operator_files.c.
 */
#include "operator.h"

#include "check.h"
#include "fault_steps.h"

#include "daemon/assert.h"
#include "kv/admin.h"

#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_MAX 40u

/* A dump or a backup under way. */
struct errand {
	bool active, begun;
	struct sim_random random;
	unsigned member;
	unsigned tries;
	uint64_t applied, hash; /* of the state, as its first page says; a backup has no hash */
	uint64_t keys, found;	/* of a dump: in the state, and so far */
	uint8_t key[KV_KEY_SIZE_MAX];
	size_t key_size; /* the last one */
	uint8_t *bytes;	 /* of a backup */
	uint64_t size, total;
};

enum { ERRAND_DUMP, ERRAND_BACKUP, ERRANDS };

struct sim_operator {
	struct errand errands[ERRANDS];
	struct kv_frame request; /* of one at a time */
	struct sim_watching *watching;
};

void sim_operator_new(struct sim *sim)
{
	sim->operator= calloc(1, sizeof *sim->operator);
	raft_assert(sim->operator!= NULL);
	sim->operator->watching = sim_watching_new();
}

void sim_operator_free(struct sim *sim)
{
	free(sim->operator->errands[ERRAND_BACKUP].bytes);
	kv_frame_free(&sim->operator->request);
	sim_watching_free(sim->operator->watching);
	free(sim->operator);
	sim->operator= NULL;
}

/* Asking ---------------------------------------------------------------------------------------------- */

static void take_question(struct sim *sim, unsigned member, const struct kv_frame *request, struct kv_frame *reply)
{
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	sim_protocol_read(sim, request, KV_FRAME_REQUESTS, &reader);
	while (kv_frame_next(&reader, &item))
		sim_pages_answer(sim, member, &item, reply);
}

bool sim_operator_ask(struct sim *sim, const struct sim_question *question, struct sim_random *random,
		      struct kv_frame *frame, struct kv_answer_body *ret_answer)
{
	struct kv_frame *request = &sim->operator->request;
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	if (!sim_member_listens(sim, question->member))
		return false;
	for (unsigned k = 0; k < SIM_DISTORTIONS; k++)
		sim_codec_distort(sim, random, question->codec, question->body, question->size);
	kv_frame_begin(request);
	uint8_t *body = kv_frame_add(request, 1, question->type, question->size);
	raft_assert(body != NULL);
	memcpy(body, question->body, question->size);
	if (!sim_protocol_send(sim, request, KV_FRAME_REQUESTS))
		return false;
	take_question(sim, question->member, request, frame);
	if (!sim_protocol_send(sim, frame, KV_FRAME_REPLIES))
		return false;
	sim_protocol_read(sim, frame, KV_FRAME_REPLIES, &reader);
	if (!kv_frame_next(&reader, &item) || !kv_reply_decode(item.body, item.size, ret_answer))
		sim_fail(sim, "member %u answers an operator with what cannot be read", question->member + 1);
	for (unsigned k = 0; k < SIM_DISTORTIONS; k++)
		sim_codec_distort(sim, random, SIM_CODEC_REPLY, item.body, item.size);
	for (unsigned k = 0; k < SIM_DISTORTIONS; k++)
		sim_codec_distort(sim, random, SIM_CODEC_FRAME, frame->buf, frame->len);
	return true;
}

static _Noreturn void fail_unreadable(const struct sim *sim, unsigned member, const char *what)
{
	sim_fail(sim, "member %u sends %s that cannot be read", member + 1, what);
}

/* Looking --------------------------------------------------------------------------------------------- */

static void look_at_status(struct sim *sim, unsigned member, struct sim_random *random)
{
	const struct sim_watch *watch = &sim->checks->members[member];
	const struct sim_question question = {.member = member, .type = KV_REQUEST_STATUS, .body = (const uint8_t *)""};
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	struct kv_member_status status;
	if (sim_operator_ask(sim, &question, random, &frame, &answer)) {
		if (!kv_status_decode(answer.data, answer.size, &status))
			fail_unreadable(sim, member, "a status");
		sim_codec_distort(sim, random, SIM_CODEC_STATUS, answer.data, answer.size);
		bool whole = status.id == member + 1 && status.applied <= status.commit &&
			     status.commit <= status.last && status.durable <= status.last &&
			     status.first <= status.last + 1 && status.incarnation == sim->members[member].incarnation;
		if (!whole)
			sim_fail(sim,
				 "member %u says: member %" PRIu64 ", applied %" PRIu64 ", committed %" PRIu64
				 ", durable %" PRIu64 ", last %" PRIu64,
				 member + 1, status.id, status.applied, status.commit, status.durable, status.last);
		if (!watch->retired && status.applied >= sim->checks->floor &&
		    status.state_hash != sim_check_state_at(sim->checks, status.applied))
			sim_fail(sim, "member %u says that its state at %" PRIu64 " is another one", member + 1,
				 status.applied);
		sim_watch_health(sim, member, &status);
	}
	kv_frame_free(&frame);
}

static void check_membership(struct sim *sim, unsigned member, const struct kv_membership *membership)
{
	const struct sim_view *view = &sim->members[member].view;
	uint32_t members = 0, voters = 0;
	bool same = membership->index == view->index;
	for (unsigned k = 0; k < membership->count; k++) {
		const struct kv_member *one = &membership->members[k];
		raft_assert(one->id >= 1 && one->id <= SIM_MEMBERS_MAX);
		unsigned number = (unsigned)one->id - 1;
		members |= 1u << number;
		if (one->role == KV_MEMBER_VOTER)
			voters |= 1u << number;
		same &= one->incarnation == view->incarnations[number] && sim_endpoint_is_of(sim, number, one->peer);
	}
	if (!same || members != view->members || voters != view->voters)
		sim_fail(sim,
			 "member %u names members %x, voters %x of entry %" PRIu64 ", its log says %x, %x of %" PRIu64,
			 member + 1, members, voters, membership->index, view->members, view->voters, view->index);
}

static void look_at_members(struct sim *sim, unsigned member, struct sim_random *random)
{
	const struct sim_question question = {
		.member = member, .type = KV_REQUEST_MEMBERS, .body = (const uint8_t *)""};
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	struct kv_membership membership;
	if (sim_operator_ask(sim, &question, random, &frame, &answer)) {
		if (!kv_membership_decode(answer.data, answer.size, &membership))
			fail_unreadable(sim, member, "a membership");
		for (unsigned k = 0; k < SIM_DISTORTIONS; k++)
			sim_codec_distort(sim, random, SIM_CODEC_MEMBERSHIP, answer.data, answer.size);
		check_membership(sim, member, &membership);
	}
	kv_frame_free(&frame);
}

/* Whatever a member calls committed is, and every entry of its log exists. */
static void check_log_item(struct sim *sim, unsigned member, const struct kv_log_item *item, uint64_t commit)
{
	const struct sim_checks *checks = sim->checks;
	uint32_t number = sim_entry_find(checks, item->index, item->term);
	if (item->index <= checks->floor)
		return; /* forgotten */
	if (number == 0 || sim_entry(checks, number)->time_ms != item->time_ms ||
	    sim_entry(checks, number)->hash != XXH3_64bits_withSeed(item->data, item->size, item->type) ||
	    (item->index <= commit && sim_check_committed_at(checks, item->index) != number))
		sim_fail(sim, "member %u shows an entry %" PRIu64 " of term %" PRIu64 " that there is not", member + 1,
			 item->index, item->term);
}

static void look_at_log(struct sim *sim, unsigned member, struct sim_random *random)
{
	uint8_t body[KV_LOG_BODY_SIZE];
	uint64_t first = sim_random_below(random, sim->checks->committed_last + 2);
	kv_log_encode(body, first, 1 + (uint32_t)sim_random_below(random, 100));
	const struct sim_question question = {
		.member = member, .type = KV_REQUEST_LOG, .body = body, .size = sizeof body, .codec = SIM_CODEC_LOG};
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	struct kv_log_page page;
	struct kv_log_item item;
	if (sim_operator_ask(sim, &question, random, &frame, &answer) && answer.answer != KV_ANSWER_BUSY) {
		if (answer.answer != KV_ANSWER_OK || !kv_log_page_decode(answer.data, answer.size, &page))
			fail_unreadable(sim, member, "a page of its log");
		for (unsigned k = 0; k < SIM_DISTORTIONS; k++)
			sim_codec_distort(sim, random, SIM_CODEC_LOG_PAGE, answer.data, answer.size);
		uint64_t next = page.first;
		if (next < first || (page.count == 0 && next <= page.last))
			sim_fail(sim, "member %u has no log from %" PRIu64 " on, though it ends at %" PRIu64,
				 member + 1, first, page.last);
		uint64_t commit = page.commit;
		while (kv_log_item_decode(&page, &item)) {
			if (item.index != next++)
				sim_fail(sim, "member %u shows entry %" PRIu64 " as number %" PRIu64, member + 1,
					 item.index, next - 1);
			check_log_item(sim, member, &item, commit);
			if (item.type == RAFT_ENTRY_COMMAND && sim_random_below(random, 4) == 0)
				sim_codec_distort(sim, random, SIM_CODEC_COMMAND, item.data, item.size);
		}
	}
	kv_frame_free(&frame);
}

void sim_operator_check_value(struct sim *sim, unsigned member, uint64_t revision, const uint8_t *value, uint32_t size)
{
	const struct sim_checks *checks = sim->checks;
	if (revision <= checks->floor)
		return; /* forgotten */
	const struct model_effect *effect =
		revision <= checks->modelled ? &sim_committed(checks, revision)->effect : NULL;
	if (effect == NULL || !effect->changed || effect->revision != revision ||
	    effect->value != model_hash(value, size))
		sim_fail(sim, "member %u shows a value of revision %" PRIu64 " that this entry did not write",
			 member + 1, revision);
}

static void read_stale(struct sim *sim, unsigned member, struct sim_random *random)
{
	uint8_t body[KV_GET_BODY_SIZE(SIM_KEY_SIZE)];
	uint8_t name[SIM_KEY_SIZE];
	sim_key_name((unsigned)sim_random_below(random, sim->plan.keys), name);
	kv_get_encode(body, KV_GET_STALE, name, sizeof name);
	const struct sim_question question = {
		.member = member, .type = KV_REQUEST_GET, .body = body, .size = sizeof body, .codec = SIM_CODEC_GET};
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	if (sim_operator_ask(sim, &question, random, &frame, &answer) && answer.answer == KV_ANSWER_OK)
		sim_operator_check_value(sim, member, answer.number, answer.data, answer.size);
	kv_frame_free(&frame);
}

int sim_operator_look(struct sim *sim, unsigned member, uint64_t seed)
{
	struct sim_random random = {seed};
	if (!sim_member_listens(sim, member))
		return 0;
	look_at_status(sim, member, &random);
	look_at_members(sim, member, &random);
	look_at_log(sim, member, &random);
	read_stale(sim, member, &random);
	sim_watch_beats(sim, sim->operator->watching, member, &random);
	sim_operator_measure(sim, member, &random);
	return 1;
}

/* Errands: dumps and backups ---------------------------------------------------------------------------- */

/* The first page says of which state all are. */
static void begin_state(struct sim *sim, struct errand *errand, uint64_t applied, uint64_t hash)
{
	struct kv_stats stats;
	if (errand->begun && (errand->applied != applied || errand->hash != hash))
		sim_fail(sim, "member %u goes on with the state of entry %" PRIu64 ", it was %" PRIu64,
			 errand->member + 1, applied, errand->applied);
	if (!errand->begun) {
		kv_store_stats(sim->members[errand->member].store, &stats);
		errand->keys = stats.keys;
	}
	errand->begun = true;
	errand->applied = applied;
	errand->hash = hash;
}

static void check_hash(struct sim *sim, const struct errand *errand)
{
	const struct sim_checks *checks = sim->checks;
	if (errand->applied >= checks->floor && errand->applied <= checks->committed_last &&
	    errand->hash != sim_check_state_at(checks, errand->applied))
		sim_fail(sim, "member %u hands out another state than that of entry %" PRIu64, errand->member + 1,
			 errand->applied);
}

static void take_item(struct sim *sim, struct errand *errand, const struct kv_item *item)
{
	size_t common = item->key_size < errand->key_size ? item->key_size : errand->key_size;
	int order = memcmp(errand->key, item->key, common);
	if (order > 0 || (order == 0 && errand->key_size >= item->key_size))
		sim_fail(sim, "member %u dumps keys in the wrong order", errand->member + 1);
	if (item->revision > errand->applied)
		sim_fail(sim, "member %u dumps the state of entry %" PRIu64 " with revision %" PRIu64,
			 errand->member + 1, errand->applied, item->revision);
	sim_operator_check_value(sim, errand->member, item->revision, item->value, item->value_size);
	memcpy(errand->key, item->key, item->key_size);
	errand->key_size = item->key_size;
	errand->found++;
}

/* True: that was all, or the state is gone. */
static bool dump_page(struct sim *sim, struct errand *errand)
{
	uint8_t body[KV_DUMP_BODY_SIZE(KV_KEY_SIZE_MAX)];
	const struct kv_dump_request request = {.flags = errand->begun ? KV_DUMP_AFTER : 0,
						.applied = errand->applied,
						.key = errand->key,
						.key_size = errand->key_size};
	kv_dump_encode(body, &request);
	const struct sim_question question = {.member = errand->member,
					      .type = KV_REQUEST_DUMP,
					      .body = body,
					      .size = KV_DUMP_BODY_SIZE(request.key_size),
					      .codec = SIM_CODEC_DUMP};
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	struct kv_dump_page page = {.more = true};
	struct kv_item item;
	bool gone = false;
	if (sim_operator_ask(sim, &question, &errand->random, &frame, &answer)) {
		gone = answer.answer == KV_ANSWER_NOT_FOUND && errand->begun;
		if (!gone && (answer.answer != KV_ANSWER_OK || !kv_dump_page_decode(answer.data, answer.size, &page)))
			fail_unreadable(sim, errand->member, "a page of its state");
		for (unsigned k = 0; k < SIM_DISTORTIONS && !gone; k++)
			sim_codec_distort(sim, &errand->random, SIM_CODEC_DUMP_PAGE, answer.data, answer.size);
		if (!gone) {
			begin_state(sim, errand, page.applied, page.hash);
			check_hash(sim, errand);
		}
		while (!gone && kv_dump_item_decode(&page, &item))
			take_item(sim, errand, &item);
	}
	kv_frame_free(&frame);
	if (!page.more && errand->found != errand->keys)
		sim_fail(sim, "a dump has %" PRIu64 " of %" PRIu64 " keys", errand->found, errand->keys);
	sim->counts.dumps += !page.more;
	return gone || !page.more;
}

static void take_piece(struct sim *sim, struct errand *errand, const struct kv_answer_body *answer)
{
	uint64_t total;
	if (answer->size < KV_BACKUP_DATA_HEADER_SIZE)
		fail_unreadable(sim, errand->member, "a piece of a backup");
	memcpy(&total, answer->data, sizeof total);
	total = le64toh(total);
	size_t size = answer->size - KV_BACKUP_DATA_HEADER_SIZE;
	if ((errand->begun && total != errand->total) || size > total - errand->size ||
	    (size == 0 && errand->size < total))
		sim_fail(sim, "member %u sends %zu bytes at %" PRIu64 " of %" PRIu64, errand->member + 1, size,
			 errand->size, total);
	begin_state(sim, errand, answer->number, 0);
	errand->total = total;
	errand->bytes = realloc(errand->bytes, errand->total + 1);
	raft_assert(errand->bytes != NULL);
	memcpy(errand->bytes + errand->size, answer->data + KV_BACKUP_DATA_HEADER_SIZE, size);
	errand->size += size;
}

static bool ask_for_piece(struct sim *sim, struct errand *errand, const struct kv_backup_request *request,
			  struct kv_frame *frame, struct kv_answer_body *ret_answer)
{
	uint8_t body[KV_BACKUP_BODY_SIZE];
	kv_backup_encode(body, request);
	const struct sim_question question = {.member = errand->member,
					      .type = KV_REQUEST_BACKUP,
					      .body = body,
					      .size = sizeof body,
					      .codec = SIM_CODEC_BACKUP};
	return sim_operator_ask(sim, &question, &errand->random, frame, ret_answer);
}

/* There is nothing behind the end. */
static void ask_beyond(struct sim *sim, struct errand *errand)
{
	uint64_t more = 1 + sim_random_below(&errand->random, 1000);
	const struct kv_backup_request request = {.pin = errand->applied, .offset = errand->total + more, .size = 1};
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	if (ask_for_piece(sim, errand, &request, &frame, &answer) && answer.answer != KV_ANSWER_NOT_FOUND)
		sim_fail(sim, "member %u has a backup beyond its end", errand->member + 1);
	kv_frame_free(&frame);
}

static bool backup_piece(struct sim *sim, struct errand *errand)
{
	const struct kv_backup_request request = {
		.pin = errand->applied,
		.offset = errand->size,
		.size = 1 + (uint32_t)sim_random_below(&errand->random, 2 * SIM_PAGE_BYTES)};
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	bool gone = false;
	if (errand->begun && sim_random_below(&errand->random, 8) == 0)
		ask_beyond(sim, errand);
	if (ask_for_piece(sim, errand, &request, &frame, &answer)) {
		gone = answer.answer == KV_ANSWER_NOT_FOUND && errand->begun;
		if (!gone && answer.answer != KV_ANSWER_OK)
			sim_fail(sim, "member %u refuses a backup", errand->member + 1);
		if (!gone)
			take_piece(sim, errand, &answer);
	}
	kv_frame_free(&frame);
	bool all = errand->begun && errand->size == errand->total;
	if (all)
		sim_operator_restore(sim, &errand->random, errand->member, errand->applied, errand->bytes,
				     errand->size);
	return gone || all;
}

/* A state that nothing was ever applied to cannot be named: there is nothing to dump. */
static bool is_empty(const struct sim *sim, unsigned member)
{
	struct kv_stats stats;
	kv_store_stats(sim->members[member].store, &stats);
	return stats.applied == 0;
}

int sim_operator_begin(struct sim *sim, unsigned member, uint64_t seed)
{
	uint64_t number = seed % ERRANDS;
	struct errand *errand = &sim->operator->errands[number];
	if (errand->active || !sim_member_listens(sim, member) || is_empty(sim, member))
		return 0;
	free(errand->bytes);
	*errand = (struct errand){.active = true, .random = {seed}, .member = member};
	sim_note(sim, "%s of member %u begins", number == ERRAND_DUMP ? "a dump" : "a backup", member + 1);
	sim_operator_step(sim, number);
	return 1;
}

/* The next page. The state that was begun with is asked for under its number, now and then from another member: it may have it. */
void sim_operator_step(struct sim *sim, uint64_t number)
{
	struct errand *errand = &sim->operator->errands[number];
	if (errand->begun && sim_random_below(&errand->random, 16) == 0)
		errand->member = (unsigned)sim_random_below(&errand->random, sim_members(sim));
	bool can = errand->begun || (sim_member_listens(sim, errand->member) && !is_empty(sim, errand->member));
	bool done = can && (number == ERRAND_DUMP ? dump_page(sim, errand) : backup_piece(sim, errand));
	if (done || ++errand->tries > TRIES_MAX) {
		sim_note(sim, "%s of entry %" PRIu64 " ends after %u pages",
			 number == ERRAND_DUMP ? "a dump" : "a backup", errand->applied, errand->tries);
		errand->active = false;
		return;
	}
	sim_fault_errand_later(sim, 1 + sim_random_below(&errand->random, 50000), number);
}
