/*
 * The table of sessions. See session.h.
 *
 * Reading order: kv_sessions_admit and kv_sessions_complete are the life of a request; the rest serves them.
 */
#include "kv/session.h"

#include "daemon/assert.h"
#include "kv/bytes.h"

#include <stdlib.h>
#include <xxhash.h>

#define RING_CAPACITY_MIN 16u
#define SLOTS_CAPACITY_MIN 16u
/* What the allocator adds to a block, estimated. */
#define CHUNK_OVERHEAD 8u
/* Keeps a session's hash apart from that of a record with the same bytes. */
#define HASH_SEED 1u

_Static_assert((KV_SESSION_WINDOW & (KV_SESSION_WINDOW - 1)) == 0, "a ring doubles until it is the window");
_Static_assert(KV_SESSION_WINDOW >= RING_CAPACITY_MIN, "the smallest ring is not above the window");
_Static_assert(KV_WINDOW_FULL <= UINT8_MAX, "a status fits eight bits of a kept reply");

/* The hash --------------------------------------------------------------------------------------------- */

static uint64_t session_hash(const struct kv_session *session)
{
	uint8_t bytes[32];

	kv_put_u64(bytes, session->id);
	kv_put_u64(bytes + 8, session->last);
	kv_put_u64(bytes + 16, session->acknowledged);
	kv_put_u64(bytes + 24, session->used);
	return XXH3_64bits_withSeed(bytes, sizeof(bytes), HASH_SEED);
}

static void update_hash(struct kv_sessions *sessions, struct kv_session *session)
{
	sessions->hash -= session->hash;
	session->hash = session_hash(session);
	sessions->hash += session->hash;
}

/* Kept replies ------------------------------------------------------------------------------------------- */

static uint64_t kept_replies(const struct kv_session *session)
{
	raft_assert(session->acknowledged <= session->last + 1);
	return session->last + 1 - session->acknowledged;
}

static uint64_t *reply_at(const struct kv_session *session, uint64_t sequence)
{
	raft_assert(session->capacity > 0);
	return &session->replies[sequence & (session->capacity - 1)];
}

static void resize_ring(struct kv_sessions *sessions, struct kv_session *session, uint32_t capacity)
{
	struct kv_session resized = *session;

	raft_assert(capacity >= kept_replies(session));
	raft_assert(capacity <= KV_SESSION_WINDOW);
	resized.capacity = capacity;
	resized.replies = malloc(capacity * sizeof(resized.replies[0]));
	raft_assert(resized.replies != NULL);
	for (uint64_t i = session->acknowledged; i <= session->last; i++)
		*reply_at(&resized, i) = *reply_at(session, i);
	free(session->replies);
	session->replies = resized.replies;
	sessions->memory += (uint64_t)capacity * sizeof(resized.replies[0]);
	sessions->memory -= (uint64_t)session->capacity * sizeof(resized.replies[0]);
	session->capacity = capacity;
}

static void keep_reply(struct kv_sessions *sessions, struct kv_session *session, const struct kv_reply *reply)
{
	raft_assert(reply->revision <= KV_REVISION_MAX);
	if (kept_replies(session) == session->capacity)
		resize_ring(sessions, session, session->capacity == 0 ? RING_CAPACITY_MIN : session->capacity * 2);
	session->last++;
	*reply_at(session, session->last) = reply->revision << 8 | reply->status;
}

static struct kv_reply kept_reply(const struct kv_session *session, uint64_t sequence)
{
	uint64_t packed;

	raft_assert(sequence >= session->acknowledged);
	raft_assert(sequence <= session->last);
	packed = *reply_at(session, sequence);
	return (struct kv_reply){.status = (uint8_t)packed, .revision = packed >> 8};
}

/* A client cannot have replies that do not exist yet. A ring that a burst has made big shrinks, but never so far that
 * it had to grow again at once. */
static void release_replies(struct kv_sessions *sessions, struct kv_session *session, uint64_t acknowledged)
{
	uint32_t capacity = session->capacity;

	if (acknowledged > session->last + 1)
		acknowledged = session->last + 1;
	if (acknowledged <= session->acknowledged)
		return;
	session->acknowledged = acknowledged;
	while (capacity > RING_CAPACITY_MIN && kept_replies(session) <= capacity / 8)
		capacity /= 2;
	if (capacity < session->capacity)
		resize_ring(sessions, session, capacity);
}

/* Order of use --------------------------------------------------------------------------------------------- */

static void unlink_use(struct kv_sessions *sessions, struct kv_session *session)
{
	if (session->older != NULL)
		session->older->newer = session->newer;
	else
		sessions->oldest = session->newer;
	if (session->newer != NULL)
		session->newer->older = session->older;
	else
		sessions->newest = session->older;
}

static void link_newest(struct kv_sessions *sessions, struct kv_session *session)
{
	session->older = sessions->newest;
	session->newer = NULL;
	if (sessions->newest != NULL)
		sessions->newest->newer = session;
	else
		sessions->oldest = session;
	sessions->newest = session;
}

static void use(struct kv_sessions *sessions, struct kv_session *session, uint64_t index)
{
	raft_assert(index > session->used);
	session->used = index;
	if (sessions->newest == session)
		return;
	unlink_use(sessions, session);
	link_newest(sessions, session);
}

/* The table -------------------------------------------------------------------------------------------- */

/* The first slot whose id is not below. */
static uint32_t slot_of(const struct kv_sessions *sessions, uint64_t id)
{
	uint32_t begin = 0, end = sessions->count;

	while (begin < end) {
		uint32_t middle = begin + (end - begin) / 2;

		if (sessions->slots[middle].id < id)
			begin = middle + 1;
		else
			end = middle;
	}
	return begin;
}

static struct kv_session *find(const struct kv_sessions *sessions, uint64_t id)
{
	uint32_t slot;

	/* One busy bridge sends most requests. */
	if (sessions->newest != NULL && sessions->newest->id == id)
		return sessions->newest;
	slot = slot_of(sessions, id);
	if (slot == sessions->count || sessions->slots[slot].id != id)
		return NULL;
	return sessions->slots[slot].session;
}

static void session_free(struct kv_sessions *sessions, struct kv_session *session)
{
	sessions->memory -= sizeof(*session) + CHUNK_OVERHEAD + session->capacity * sizeof(session->replies[0]);
	free(session->replies);
	free(session);
}

static void expire(struct kv_sessions *sessions, struct kv_session *session)
{
	uint32_t slot = slot_of(sessions, session->id);

	raft_assert(slot < sessions->count);
	raft_assert(sessions->slots[slot].session == session);
	sessions->count--;
	memmove(sessions->slots + slot, sessions->slots + slot + 1,
		(sessions->count - slot) * sizeof(sessions->slots[0]));
	sessions->hash -= session->hash;
	unlink_use(sessions, session);
	session_free(sessions, session);
}

static void grow_slots(struct kv_sessions *sessions)
{
	uint32_t capacity = sessions->capacity == 0 ? SLOTS_CAPACITY_MIN : sessions->capacity * 2;
	struct kv_session_slot *slots = realloc(sessions->slots, capacity * sizeof(slots[0]));

	raft_assert(slots != NULL);
	raft_assert(capacity <= KV_SESSIONS_MAX * 2);
	sessions->memory += (capacity - sessions->capacity) * sizeof(slots[0]);
	sessions->slots = slots;
	sessions->capacity = capacity;
}

void kv_sessions_init(struct kv_sessions *sessions)
{
	*sessions = (struct kv_sessions){.count = 0};
}

void kv_sessions_fini(struct kv_sessions *sessions)
{
	for (uint32_t i = 0; i < sessions->count; i++)
		session_free(sessions, sessions->slots[i].session);
	free(sessions->slots);
	kv_sessions_init(sessions);
}

void kv_sessions_register(struct kv_sessions *sessions, uint64_t index)
{
	struct kv_session *session;

	raft_assert(index > 0);
	raft_assert(sessions->count == 0 || sessions->slots[sessions->count - 1].id < index);
	if (sessions->count == KV_SESSIONS_MAX)
		expire(sessions, sessions->oldest);
	if (sessions->count == sessions->capacity)
		grow_slots(sessions);
	session = malloc(sizeof(*session));
	raft_assert(session != NULL);
	*session = (struct kv_session){.id = index, .acknowledged = 1, .used = index};
	sessions->memory += sizeof(*session) + CHUNK_OVERHEAD;
	sessions->slots[sessions->count++] = (struct kv_session_slot){.id = index, .session = session};
	link_newest(sessions, session);
	update_hash(sessions, session);
}

/* The life of a request ---------------------------------------------------------------------------------- */

bool kv_sessions_admit(struct kv_sessions *sessions, uint64_t index, const struct kv_command *command,
		       struct kv_session **ret_session, struct kv_reply *ret_reply)
{
	struct kv_session *session = find(sessions, command->session);

	if (session == NULL) {
		*ret_reply = (struct kv_reply){.status = KV_NO_SESSION};
		return false;
	}
	use(sessions, session, index);
	release_replies(sessions, session, command->acknowledged);
	update_hash(sessions, session);

	if (command->sequence < session->acknowledged) {
		*ret_reply = (struct kv_reply){.status = KV_ALREADY_ACKNOWLEDGED};
	} else if (command->sequence <= session->last) {
		*ret_reply = kept_reply(session, command->sequence);
	} else if (command->sequence > session->last + 1) {
		*ret_reply = (struct kv_reply){.status = KV_OUT_OF_ORDER, .revision = session->last + 1};
	} else if (kept_replies(session) >= KV_SESSION_WINDOW) {
		*ret_reply = (struct kv_reply){.status = KV_WINDOW_FULL};
	} else {
		*ret_session = session;
		return true;
	}
	return false;
}

void kv_sessions_complete(struct kv_sessions *sessions, struct kv_session *session, const struct kv_reply *reply)
{
	raft_assert(kept_replies(session) < KV_SESSION_WINDOW);
	raft_assert(reply->status == KV_OK || reply->status == KV_NOT_FOUND || reply->status == KV_CAS_MISMATCH);
	keep_reply(sessions, session, reply);
	update_hash(sessions, session);
}

void kv_sessions_check(const struct kv_sessions *sessions)
{
	uint64_t hash = 0, memory = sessions->capacity * sizeof(sessions->slots[0]);
	uint32_t by_use = 0;

	for (uint32_t i = 0; i < sessions->count; i++) {
		const struct kv_session *session = sessions->slots[i].session;

		raft_assert(session->id == sessions->slots[i].id);
		raft_assert(i == 0 || sessions->slots[i - 1].id < session->id);
		raft_assert(session->used >= session->id);
		raft_assert(kept_replies(session) <= session->capacity);
		hash += session_hash(session);
		memory += sizeof(*session) + CHUNK_OVERHEAD + session->capacity * sizeof(session->replies[0]);
	}
	for (const struct kv_session *i = sessions->oldest; i != NULL; i = i->newer, by_use++) {
		raft_assert(by_use < sessions->count);
		raft_assert(i->newer != NULL ? i->newer->used > i->used : i == sessions->newest);
	}
	raft_assert(by_use == sessions->count && sessions->count <= KV_SESSIONS_MAX);
	raft_assert(hash == sessions->hash);
	raft_assert(memory == sessions->memory);
}
