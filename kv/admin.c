/* See admin.h. */
#include "kv/admin.h"

#include "daemon/assert.h"
#include "kv/bytes.h"

#include <string.h>

#define MEMBERSHIP_HEADER_SIZE 16u
#define MEMBER_HEADER_SIZE 24u
#define CHANGE_HEADER_SIZE 24u

/* Endpoints ------------------------------------------------------------------------------------------------ */

static size_t endpoint_size(const char *endpoint)
{
	const char *end = memchr(endpoint, 0, KV_ENDPOINT_MAX + 1);

	raft_assert(end != NULL);
	return (size_t)(end - endpoint);
}

/* A string of printable characters: what is read here is shown to operators and given to ZeroMQ. */
static bool take_endpoint(const uint8_t *at, size_t size, char *ret_endpoint)
{
	if (size > KV_ENDPOINT_MAX)
		return false;
	for (size_t i = 0; i < size; i++)
		if (at[i] <= ' ' || at[i] > '~')
			return false;
	memcpy(ret_endpoint, at, size);
	ret_endpoint[size] = '\0';
	return true;
}

/* The membership ------------------------------------------------------------------------------------------- */

size_t kv_membership_size(const struct kv_membership *membership)
{
	size_t size = MEMBERSHIP_HEADER_SIZE;

	raft_assert(membership->count <= KV_MEMBERS_MAX);
	for (uint32_t i = 0; i < membership->count; i++)
		size += MEMBER_HEADER_SIZE + endpoint_size(membership->members[i].peer) +
			endpoint_size(membership->members[i].client);
	return size;
}

static uint8_t *encode_member(uint8_t *at, const struct kv_member *member)
{
	size_t peer = endpoint_size(member->peer);
	size_t client = endpoint_size(member->client);

	raft_assert(member->role >= KV_MEMBER_VOTER && member->role <= KV_MEMBER_JOINING);
	kv_put_u64(at, member->id);
	kv_put_u64(at + 8, member->incarnation);
	kv_put_u32(at + 16, member->role);
	kv_put_u16(at + 20, (uint16_t)peer);
	kv_put_u16(at + 22, (uint16_t)client);
	memcpy(at + MEMBER_HEADER_SIZE, member->peer, peer);
	memcpy(at + MEMBER_HEADER_SIZE + peer, member->client, client);
	return at + MEMBER_HEADER_SIZE + peer + client;
}

void kv_membership_encode(uint8_t *data, const struct kv_membership *membership)
{
	uint8_t *at = data + MEMBERSHIP_HEADER_SIZE;

	raft_assert(membership->count <= KV_MEMBERS_MAX);
	kv_put_u64(data, membership->index);
	kv_put_u32(data + 8, membership->committed ? 1 : 0);
	kv_put_u32(data + 12, membership->count);
	for (uint32_t i = 0; i < membership->count; i++)
		at = encode_member(at, &membership->members[i]);
}

/* Returns the bytes consumed, 0 if these are no member. */
static size_t decode_member(const uint8_t *at, size_t left, struct kv_member *ret_member)
{
	if (left < MEMBER_HEADER_SIZE)
		return 0;
	uint32_t role = kv_take_u32(at + 16);
	size_t peer = kv_take_u16(at + 20);
	size_t client = kv_take_u16(at + 22);
	if (role < KV_MEMBER_VOTER || role > KV_MEMBER_JOINING || left - MEMBER_HEADER_SIZE < peer + client)
		return 0;
	ret_member->id = kv_take_u64(at);
	ret_member->incarnation = kv_take_u64(at + 8);
	ret_member->role = (uint8_t)role;
	if (!take_endpoint(at + MEMBER_HEADER_SIZE, peer, ret_member->peer) ||
	    !take_endpoint(at + MEMBER_HEADER_SIZE + peer, client, ret_member->client))
		return 0;
	return MEMBER_HEADER_SIZE + peer + client;
}

bool kv_membership_decode(const uint8_t *data, size_t size, struct kv_membership *ret_membership)
{
	struct kv_membership membership = {0};
	size_t at = MEMBERSHIP_HEADER_SIZE;

	if (size < MEMBERSHIP_HEADER_SIZE)
		return false;
	uint32_t committed = kv_take_u32(data + 8);
	membership.index = kv_take_u64(data);
	membership.committed = committed == 1;
	membership.count = kv_take_u32(data + 12);
	if (committed > 1 || membership.count > KV_MEMBERS_MAX)
		return false;
	for (uint32_t i = 0; i < membership.count; i++) {
		size_t taken = decode_member(data + at, size - at, &membership.members[i]);
		if (taken == 0 || (i > 0 && membership.members[i].id <= membership.members[i - 1].id))
			return false;
		at += taken;
	}
	if (at != size)
		return false;
	*ret_membership = membership;
	return true;
}

/* Changes -------------------------------------------------------------------------------------------------- */

size_t kv_change_size(const struct kv_change *change)
{
	return CHANGE_HEADER_SIZE + endpoint_size(change->peer) + endpoint_size(change->client);
}

void kv_change_encode(uint8_t *body, const struct kv_change *change)
{
	size_t peer = endpoint_size(change->peer);
	size_t client = endpoint_size(change->client);

	raft_assert(change->type >= KV_CHANGE_ADD && change->type <= KV_CHANGE_MOVE);
	body[0] = change->type;
	body[1] = change->flags;
	kv_put_u16(body + 2, (uint16_t)peer);
	kv_put_u16(body + 4, (uint16_t)client);
	kv_put_u16(body + 6, 0);
	kv_put_u64(body + 8, change->id);
	kv_put_u64(body + 16, change->if_index);
	memcpy(body + CHANGE_HEADER_SIZE, change->peer, peer);
	memcpy(body + CHANGE_HEADER_SIZE + peer, change->client, client);
}

bool kv_change_decode(const uint8_t *body, size_t size, struct kv_change *ret_change)
{
	struct kv_change change = {0};

	if (size < CHANGE_HEADER_SIZE)
		return false;
	size_t peer = kv_take_u16(body + 2);
	size_t client = kv_take_u16(body + 4);
	change.type = body[0];
	change.flags = body[1];
	if (change.type < KV_CHANGE_ADD || change.type > KV_CHANGE_MOVE)
		return false;
	if ((change.flags & ~KV_CHANGE_STAY_LEARNER) != 0 || kv_take_u16(body + 6) != 0)
		return false;
	if (size != CHANGE_HEADER_SIZE + peer + client)
		return false;
	change.id = kv_take_u64(body + 8);
	change.if_index = kv_take_u64(body + 16);
	if (!take_endpoint(body + CHANGE_HEADER_SIZE, peer, change.peer) ||
	    !take_endpoint(body + CHANGE_HEADER_SIZE + peer, client, change.client))
		return false;
	*ret_change = change;
	return true;
}

/* Backups -------------------------------------------------------------------------------------------------- */

void kv_backup_encode(uint8_t *body, const struct kv_backup_request *request)
{
	kv_put_u64(body, request->pin);
	kv_put_u64(body + 8, request->offset);
	kv_put_u32(body + 16, request->size);
	kv_put_u32(body + 20, 0);
}

bool kv_backup_decode(const uint8_t *body, size_t size, struct kv_backup_request *ret_request)
{
	if (size != KV_BACKUP_BODY_SIZE || kv_take_u32(body + 20) != 0 || kv_take_u32(body + 16) == 0)
		return false;
	*ret_request = (struct kv_backup_request){
		.pin = kv_take_u64(body), .offset = kv_take_u64(body + 8), .size = kv_take_u32(body + 16)};
	return true;
}

/* Beats ---------------------------------------------------------------------------------------------------- */

#define BEATS_HEADER_SIZE 64u
#define BEAT_HEADER_SIZE 48u
#define BEAT_ANSWER_SIZE 16u

void kv_beats_request_encode(uint8_t *body, uint64_t after)
{
	kv_put_u64(body, after);
}

bool kv_beats_request_decode(const uint8_t *body, size_t size, uint64_t *ret_after)
{
	if (size != KV_BEATS_BODY_SIZE)
		return false;
	*ret_after = kv_take_u64(body);
	return true;
}

size_t kv_beats_size(const struct kv_beats *beats)
{
	size_t size = BEATS_HEADER_SIZE;

	raft_assert(beats->count <= KV_BEATS_MAX);
	for (uint64_t i = 0; i < beats->count; i++)
		size += BEAT_HEADER_SIZE + BEAT_ANSWER_SIZE * (size_t)beats->beats[i].n_answers;
	return size;
}

static uint8_t *put_numbers(uint8_t *at, const uint64_t *numbers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		kv_put_u64(at + 8 * i, numbers[i]);
	return at + 8 * n;
}

void kv_beats_encode(uint8_t *data, const struct kv_beats *beats)
{
	const uint64_t header[] = {beats->id,		beats->role,   beats->term,   beats->leader,
				   beats->heartbeat_us, beats->voters, beats->newest, beats->count};

	_Static_assert(sizeof header == BEATS_HEADER_SIZE, "by the table");
	data = put_numbers(data, header, sizeof header / sizeof header[0]);
	for (uint64_t i = 0; i < beats->count; i++) {
		const struct kv_beat *beat = &beats->beats[i];
		const uint64_t numbers[] = {beat->number, beat->term,	   beat->age_us,
					    beat->quorum, beat->quorum_us, beat->n_answers};
		raft_assert(beat->n_answers <= KV_MEMBERS_MAX);
		data = put_numbers(data, numbers, sizeof numbers / sizeof numbers[0]);
		for (uint64_t k = 0; k < beat->n_answers; k++) {
			const uint64_t answer[] = {beat->answers[k].id, beat->answers[k].after_us};
			data = put_numbers(data, answer, 2);
		}
	}
}

/* Returns the bytes consumed, 0 if these are no beat. */
static size_t decode_beat(const uint8_t *at, size_t left, struct kv_beat *ret_beat)
{
	if (left < BEAT_HEADER_SIZE)
		return 0;
	ret_beat->number = kv_take_u64(at);
	ret_beat->term = kv_take_u64(at + 8);
	ret_beat->age_us = kv_take_u64(at + 16);
	ret_beat->quorum = kv_take_u64(at + 24);
	ret_beat->quorum_us = kv_take_u64(at + 32);
	ret_beat->n_answers = kv_take_u64(at + 40);
	if (ret_beat->quorum > 1 || ret_beat->n_answers > KV_MEMBERS_MAX ||
	    left - BEAT_HEADER_SIZE < BEAT_ANSWER_SIZE * ret_beat->n_answers)
		return 0;
	for (uint64_t k = 0; k < ret_beat->n_answers; k++) {
		const uint8_t *answer = at + BEAT_HEADER_SIZE + BEAT_ANSWER_SIZE * k;
		ret_beat->answers[k].id = kv_take_u64(answer);
		ret_beat->answers[k].after_us = kv_take_u64(answer + 8);
	}
	return BEAT_HEADER_SIZE + BEAT_ANSWER_SIZE * (size_t)ret_beat->n_answers;
}

bool kv_beats_decode(const uint8_t *data, size_t size, struct kv_beats *ret_beats)
{
	struct kv_beats beats = {0};
	size_t at = BEATS_HEADER_SIZE;

	if (size < BEATS_HEADER_SIZE)
		return false;
	beats.id = kv_take_u64(data);
	beats.role = kv_take_u64(data + 8);
	beats.term = kv_take_u64(data + 16);
	beats.leader = kv_take_u64(data + 24);
	beats.heartbeat_us = kv_take_u64(data + 32);
	beats.voters = kv_take_u64(data + 40);
	beats.newest = kv_take_u64(data + 48);
	beats.count = kv_take_u64(data + 56);
	if (beats.count > KV_BEATS_MAX)
		return false;
	for (uint64_t i = 0; i < beats.count; i++) {
		size_t taken = decode_beat(data + at, size - at, &beats.beats[i]);
		if (taken == 0)
			return false;
		at += taken;
	}
	if (at != size)
		return false;
	*ret_beats = beats;
	return true;
}

/* Health --------------------------------------------------------------------------------------------------- */

const char *kv_check_text(uint64_t check, bool failed)
{
	switch ((enum kv_check)check) {
	case KV_CHECK_DISK:
		return failed ? "disk: a write has not returned for seconds" : "disk: answers";
	case KV_CHECK_RECOVERED:
		return failed ? "state: a snapshot is being loaded" : "state: whole";
	case KV_CHECK_MEMBER:
		return failed ? "cluster: none yet" : "cluster: belongs to one";
	case KV_CHECK_LEADER:
		return failed ? "leader: none is known" : "leader: known";
	case KV_CHECK_APPLIED:
		return failed ? "applied: too far behind what is committed" : "applied: up to date";
	}
	return "unknown check";
}

const char *kv_alarm_name(uint64_t alarm)
{
	switch ((enum kv_alarm)alarm) {
	case KV_ALARM_DISK_FULL:
		return "disk_full";
	case KV_ALARM_DISK_STALLED:
		return "disk_stalled";
	}
	return "unknown";
}
