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

#define SLOTS_CAPACITY_MIN 16u
/* What the allocator adds to a block, estimated. */
#define CHUNK_OVERHEAD 8u
/* Keeps a session's hash apart from that of a record with the same bytes. */
#define HASH_SEED 1u

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

static uint32_t ring_capacity(const struct kv_session *session)
{
	return session->ring == NULL ? 0 : session->ring->capacity;
}

/* Gives the session a ring that nobody else holds, with the replies that are kept. */
static void replace_ring(struct kv_sessions *sessions, struct kv_session *session, uint32_t capacity)
{
	struct kv_ring *ring = kv_ring_alloc(capacity);

	raft_assert(ring != NULL);
	raft_assert(capacity >= kept_replies(session));
	for (uint64_t i = session->acknowledged; i <= session->last; i++)
		*kv_ring_at(ring, i) = *kv_ring_at(session->ring, i);
	sessions->memory += kv_ring_memory(ring);
	sessions->memory -= kv_ring_memory(session->ring);
	kv_ring_unref(session->ring);
	session->ring = ring;
}

static void keep_reply(struct kv_sessions *sessions, struct kv_session *session, const struct kv_reply *reply)
{
	uint32_t capacity = ring_capacity(session);

	if (kept_replies(session) == capacity)
		replace_ring(sessions, session, kv_ring_capacity_for(kept_replies(session) + 1));
	else if (!kv_is_only_reference(&session->ring->references))
		replace_ring(sessions, session, capacity);
	session->last++;
	*kv_ring_at(session->ring, session->last) = kv_kept_pack(reply);
}

static struct kv_reply kept_reply(const struct kv_session *session, uint64_t sequence)
{
	raft_assert(sequence >= session->acknowledged);
	raft_assert(sequence <= session->last);
	return kv_kept_unpack(*kv_ring_at(session->ring, sequence));
}

/* A client cannot have replies that do not exist yet. A ring that a burst has made big shrinks, but never so far that
 * it had to grow again at once. */
static void release_replies(struct kv_sessions *sessions, struct kv_session *session, uint64_t acknowledged)
{
	uint32_t capacity = ring_capacity(session);

	if (acknowledged > session->last + 1)
		acknowledged = session->last + 1;
	if (acknowledged <= session->acknowledged)
		return;
	session->acknowledged = acknowledged;
	while (capacity > KV_RING_CAPACITY_MIN && kept_replies(session) <= capacity / 8)
		capacity /= 2;
	if (capacity < ring_capacity(session))
		replace_ring(sessions, session, capacity);
}

/* Order of use --------------------------------------------------------------------------------------------- */

/* Never the newest: that one stays where it is, and is the last to expire. */
static void unlink_use(struct kv_sessions *sessions, struct kv_session *session)
{
	raft_assert(session->newer != NULL);
	if (session->older != NULL)
		session->older->newer = session->newer;
	else
		sessions->oldest = session->newer;
	session->newer->older = session->older;
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
	sessions->memory -= sizeof(*session) + CHUNK_OVERHEAD + kv_ring_memory(session->ring);
	kv_ring_unref(session->ring);
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

static bool grow_slots(struct kv_sessions *sessions)
{
	uint32_t capacity = sessions->capacity == 0 ? SLOTS_CAPACITY_MIN : sessions->capacity * 2;
	struct kv_session_slot *slots = realloc(sessions->slots, capacity * sizeof(slots[0]));

	raft_assert(capacity <= KV_SESSIONS_MAX * 2);
	if (slots == NULL)
		return false;
	sessions->memory += (capacity - sessions->capacity) * sizeof(slots[0]);
	sessions->slots = slots;
	sessions->capacity = capacity;
	return true;
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

bool kv_sessions_know(const struct kv_sessions *sessions, uint64_t id)
{
	return find(sessions, id) != NULL;
}

bool kv_sessions_restore(struct kv_sessions *sessions, const struct kv_session_image *image)
{
	struct kv_session *session;
	uint32_t slot = slot_of(sessions, image->id);

	raft_assert(sessions->count < KV_SESSIONS_MAX);
	raft_assert(slot == sessions->count || sessions->slots[slot].id != image->id);
	raft_assert(sessions->newest == NULL || sessions->newest->used < image->used);
	if (sessions->count == sessions->capacity && !grow_slots(sessions))
		return false;
	session = malloc(sizeof(*session));
	if (session == NULL)
		return false;
	*session = (struct kv_session){.id = image->id,
				       .last = image->last,
				       .acknowledged = image->acknowledged,
				       .used = image->used,
				       .ring = image->ring};
	sessions->memory += sizeof(*session) + CHUNK_OVERHEAD + kv_ring_memory(session->ring);
	memmove(sessions->slots + slot + 1, sessions->slots + slot,
		(sessions->count - slot) * sizeof(sessions->slots[0]));
	sessions->slots[slot] = (struct kv_session_slot){.id = session->id, .session = session};
	sessions->count++;
	link_newest(sessions, session);
	update_hash(sessions, session);
	return true;
}

void kv_sessions_register(struct kv_sessions *sessions, uint64_t index)
{
	bool restored;

	raft_assert(index > 0);
	raft_assert(sessions->count == 0 || sessions->slots[sessions->count - 1].id < index);
	if (sessions->count == KV_SESSIONS_MAX)
		expire(sessions, sessions->oldest);
	restored = kv_sessions_restore(sessions,
				       &(struct kv_session_image){.id = index, .acknowledged = 1, .used = index});
	raft_assert(restored);
}

void kv_sessions_copy(const struct kv_sessions *sessions, struct kv_session_image *images)
{
	uint32_t i = 0;

	for (const struct kv_session *session = sessions->oldest; session != NULL; session = session->newer, i++) {
		images[i] = (struct kv_session_image){.id = session->id,
						      .last = session->last,
						      .acknowledged = session->acknowledged,
						      .used = session->used};
		if (kept_replies(session) > 0)
			images[i].ring = kv_ring_ref(session->ring);
	}
	raft_assert(i == sessions->count);
}

void kv_session_images_drop(struct kv_session_image *images, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		kv_ring_unref(images[i].ring);
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
	raft_assert(kv_is_kept_status(reply->status));
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
		raft_assert(kept_replies(session) <= ring_capacity(session));
		hash += session_hash(session);
		memory += sizeof(*session) + CHUNK_OVERHEAD + kv_ring_memory(session->ring);
	}
	for (const struct kv_session *i = sessions->oldest; i != NULL; i = i->newer, by_use++) {
		raft_assert(by_use < sessions->count);
		raft_assert(i->newer != NULL ? i->newer->used > i->used : i == sessions->newest);
	}
	raft_assert(by_use == sessions->count && sessions->count <= KV_SESSIONS_MAX);
	raft_assert(hash == sessions->hash);
	raft_assert(memory == sessions->memory);
}
