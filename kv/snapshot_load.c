/*
 * Reading a snapshot's bytes back into a store. See snapshot_stream.h.
 *
 * The bytes may come from an old or damaged file or from a hostile peer: nothing is believed that was not checked, and
 * no memory is taken for what a number only announces, but for the one item that begins. Bytes are collected part by
 * part; a part that is complete is checked, and says what the next one is.
 */
#include "kv/snapshot_stream.h"

#include "daemon/assert.h"
#include "kv/bytes.h"
#include "kv/snapshot_format.h"
#include "kv/state.h"
#include "kv/tree_build.h"

#include <stdlib.h>
#include <xxhash.h>

_Static_assert(KV_REVISION_MAX < KV_TREE_BUILD_KEYS_MAX, "so many keys as there can be revisions can be built");

struct kv_store_loader {
	struct kv_store *store;
	struct kv_tree_builder builder;
	XXH3_state_t *checksum; /* of all before the end */
	int result;
	uint64_t applied_min, applied_max; /* that the state may be of */
	uint64_t offset;		   /* of the part that is being collected */
	uint64_t item_offset;		   /* of the item that it belongs to */
	enum kv_snapshot_part part;
	uint8_t *bytes; /* where its bytes go */
	size_t have, size;
	uint64_t keys_left;
	uint32_t sessions_left;
	struct kv_session_image session; /* whose replies are being read */
	uint64_t reply;			 /* sequence number of the next one */
	struct kv_record *record;	 /* whose bytes are being read */
	const struct kv_record *last;
	uint8_t buf[KV_SNAPSHOT_REPLIES_AT_ONCE * KV_SNAPSHOT_REPLY_SIZE];
};

const char *kv_load_result_name(int result)
{
	static const char *const names[] = {
		[KV_LOAD_OK] = "ok",
		[KV_LOAD_SHORT] = "short",
		[KV_LOAD_LONG] = "long",
		[KV_LOAD_MAGIC] = "magic",
		[KV_LOAD_VERSION] = "version",
		[KV_LOAD_RESERVED] = "reserved",
		[KV_LOAD_COUNTS] = "counts",
		[KV_LOAD_SESSION] = "session",
		[KV_LOAD_SESSION_ORDER] = "session_order",
		[KV_LOAD_REPLY] = "reply",
		[KV_LOAD_RECORD] = "record",
		[KV_LOAD_KEY_ORDER] = "key_order",
		[KV_LOAD_CHECKSUM] = "checksum",
		[KV_LOAD_HASH] = "hash",
		[KV_LOAD_MEMORY] = "memory",
		[KV_LOAD_APPLIED] = "applied",
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) == KV_LOAD_APPLIED + 1, "each has a name");
	return result >= 0 && (size_t)result < sizeof(names) / sizeof(names[0]) ? names[result] : NULL;
}

/* What is to be read next --------------------------------------------------------------------------------- */

static void expect(struct kv_store_loader *loader, enum kv_snapshot_part part, uint8_t *bytes, size_t size)
{
	raft_assert(bytes != loader->buf || size <= sizeof(loader->buf));
	loader->part = part;
	loader->bytes = bytes;
	loader->have = 0;
	loader->size = size;
}

static void expect_item(struct kv_store_loader *loader, enum kv_snapshot_part part, size_t size)
{
	loader->item_offset = loader->offset;
	expect(loader, part, loader->buf, size);
}

static void expect_session_or_record(struct kv_store_loader *loader)
{
	if (loader->sessions_left > 0)
		expect_item(loader, KV_SNAPSHOT_SESSION, KV_SNAPSHOT_SESSION_SIZE);
	else if (loader->keys_left > 0)
		expect_item(loader, KV_SNAPSHOT_RECORD, KV_RECORD_IMAGE_OFFSET_KEY);
	else
		expect_item(loader, KV_SNAPSHOT_END, KV_SNAPSHOT_END_SIZE);
}

/* Parts that are complete ---------------------------------------------------------------------------------- */

static int take_header(struct kv_store_loader *loader)
{
	const uint8_t *bytes = loader->buf;
	uint64_t applied = kv_take_u64(bytes + KV_SNAPSHOT_OFFSET_APPLIED);
	uint64_t keys = kv_take_u64(bytes + KV_SNAPSHOT_OFFSET_KEYS);
	uint32_t sessions = kv_take_u32(bytes + KV_SNAPSHOT_OFFSET_SESSIONS);

	if (memcmp(bytes + KV_SNAPSHOT_OFFSET_MAGIC, KV_SNAPSHOT_MAGIC, strlen(KV_SNAPSHOT_MAGIC)) != 0)
		return KV_LOAD_MAGIC;
	if (kv_take_u16(bytes + KV_SNAPSHOT_OFFSET_VERSION) != KV_SNAPSHOT_VERSION)
		return KV_LOAD_VERSION;
	if (kv_take_u16(bytes + KV_SNAPSHOT_OFFSET_RESERVED) != 0 ||
	    kv_take_u32(bytes + KV_SNAPSHOT_OFFSET_RESERVED_2) != 0)
		return KV_LOAD_RESERVED;
	/* An entry changes one key or opens one session. */
	if (applied > KV_REVISION_MAX || sessions > KV_SESSIONS_MAX || sessions > applied || keys > applied - sessions)
		return KV_LOAD_COUNTS;
	if (applied < loader->applied_min || applied > loader->applied_max)
		return KV_LOAD_APPLIED;
	loader->store->applied = applied;
	loader->sessions_left = sessions;
	loader->keys_left = keys;
	kv_tree_builder_init(&loader->builder, keys);
	expect_session_or_record(loader);
	return KV_LOAD_OK;
}

/* Whether entries up to `applied` can have made such a session. */
static bool is_session_possible(const struct kv_session_image *session, uint64_t applied)
{
	if (session->id == 0 || session->used < session->id || session->used > applied)
		return false;
	/* Each request that was applied is an entry after the one that opened the session. */
	if (session->last > session->used - session->id)
		return false;
	if (session->acknowledged == 0 || session->acknowledged > session->last + 1)
		return false;
	return kv_session_image_kept(session) <= KV_SESSION_WINDOW;
}

static int complete_session(struct kv_store_loader *loader)
{
	if (!kv_sessions_restore(&loader->store->sessions, &loader->session))
		return KV_LOAD_MEMORY;
	loader->session.ring = NULL;
	loader->sessions_left--;
	expect_session_or_record(loader);
	return KV_LOAD_OK;
}

static void expect_replies(struct kv_store_loader *loader)
{
	uint64_t left = loader->session.last + 1 - loader->reply;

	if (left > KV_SNAPSHOT_REPLIES_AT_ONCE)
		left = KV_SNAPSHOT_REPLIES_AT_ONCE;
	expect(loader, KV_SNAPSHOT_REPLIES, loader->buf, left * KV_SNAPSHOT_REPLY_SIZE);
}

static int take_session(struct kv_store_loader *loader)
{
	const struct kv_sessions *sessions = &loader->store->sessions;
	struct kv_session_image session = {
		.id = kv_take_u64(loader->buf + KV_SNAPSHOT_SESSION_OFFSET_ID),
		.last = kv_take_u64(loader->buf + KV_SNAPSHOT_SESSION_OFFSET_LAST),
		.acknowledged = kv_take_u64(loader->buf + KV_SNAPSHOT_SESSION_OFFSET_ACKNOWLEDGED),
		.used = kv_take_u64(loader->buf + KV_SNAPSHOT_SESSION_OFFSET_USED),
	};

	if (!is_session_possible(&session, loader->store->applied))
		return KV_LOAD_SESSION;
	if (sessions->newest != NULL && session.used <= sessions->newest->used)
		return KV_LOAD_SESSION_ORDER;
	if (kv_sessions_know(sessions, session.id))
		return KV_LOAD_SESSION_ORDER;
	loader->session = session;
	if (kv_session_image_kept(&session) == 0)
		return complete_session(loader);
	loader->session.ring = kv_ring_alloc(kv_ring_capacity_for(kv_session_image_kept(&session)));
	if (loader->session.ring == NULL)
		return KV_LOAD_MEMORY;
	loader->reply = session.acknowledged;
	expect_replies(loader);
	return KV_LOAD_OK;
}

static int take_replies(struct kv_store_loader *loader)
{
	for (size_t at = 0; at < loader->size; at += KV_SNAPSHOT_REPLY_SIZE) {
		uint64_t kept = kv_take_u64(loader->buf + at);
		struct kv_reply reply = kv_kept_unpack(kept);

		if (!kv_is_kept_status(reply.status) || reply.revision > loader->session.used)
			return KV_LOAD_REPLY;
		*kv_ring_at(loader->session.ring, loader->reply) = kept;
		loader->reply++;
	}
	if (loader->reply > loader->session.last)
		return complete_session(loader);
	expect_replies(loader);
	return KV_LOAD_OK;
}

static int take_record(struct kv_store_loader *loader)
{
	uint32_t value_size = kv_take_u32(loader->buf + KV_RECORD_IMAGE_OFFSET_VALUE_SIZE);
	uint64_t revision = kv_take_u64(loader->buf + KV_RECORD_IMAGE_OFFSET_REVISION);
	uint16_t key_size = kv_take_u16(loader->buf + KV_RECORD_IMAGE_OFFSET_KEY_SIZE);

	if (key_size == 0 || key_size > KV_KEY_SIZE_MAX || value_size > KV_VALUE_SIZE_MAX)
		return KV_LOAD_RECORD;
	if (revision == 0 || revision > loader->store->applied)
		return KV_LOAD_RECORD;
	loader->record = kv_record_alloc(key_size, value_size, revision);
	if (loader->record == NULL)
		return KV_LOAD_MEMORY;
	expect(loader, KV_SNAPSHOT_RECORD_BYTES, loader->record->bytes, (size_t)key_size + value_size);
	return KV_LOAD_OK;
}

static int take_record_bytes(struct kv_store_loader *loader)
{
	struct kv_record *record = loader->record;

	if (loader->last != NULL &&
	    kv_record_compare(loader->last, kv_record_key(record), kv_record_key_size(record), 0) >= 0)
		return KV_LOAD_KEY_ORDER;
	if (!kv_tree_builder_append(&loader->builder, record))
		return KV_LOAD_MEMORY;
	kv_store_count(loader->store, record);
	loader->record = NULL;
	loader->last = record;
	loader->keys_left--;
	expect_session_or_record(loader);
	return KV_LOAD_OK;
}

static int take_end(struct kv_store_loader *loader)
{
	if (kv_take_u64(loader->buf + KV_SNAPSHOT_END_OFFSET_CHECKSUM) != XXH3_64bits_digest(loader->checksum))
		return KV_LOAD_CHECKSUM;
	if (kv_take_u64(loader->buf + KV_SNAPSHOT_END_OFFSET_HASH) != kv_store_hash(loader->store))
		return KV_LOAD_HASH;
	expect_item(loader, KV_SNAPSHOT_NOTHING, 0);
	return KV_LOAD_OK;
}

static int take_part(struct kv_store_loader *loader)
{
	switch (loader->part) {
	case KV_SNAPSHOT_HEADER:
		return take_header(loader);
	case KV_SNAPSHOT_SESSION:
		return take_session(loader);
	case KV_SNAPSHOT_REPLIES:
		return take_replies(loader);
	case KV_SNAPSHOT_RECORD:
		return take_record(loader);
	case KV_SNAPSHOT_RECORD_BYTES:
		return take_record_bytes(loader);
	case KV_SNAPSHOT_END:
		return take_end(loader);
	case KV_SNAPSHOT_NOTHING:
		break;
	}
	return KV_LOAD_LONG;
}

/* The loader ------------------------------------------------------------------------------------------------ */

struct kv_store_loader *kv_store_load_new(void)
{
	struct kv_store_loader *loader = calloc(1, sizeof(*loader));

	if (loader == NULL)
		return NULL;
	loader->store = kv_store_new();
	loader->checksum = XXH3_createState();
	if (loader->store == NULL || loader->checksum == NULL)
		return kv_store_load_free(loader);
	(void)XXH3_64bits_reset(loader->checksum); /* fails for a null pointer only */
	loader->applied_max = KV_REVISION_MAX;
	expect_item(loader, KV_SNAPSHOT_HEADER, KV_SNAPSHOT_HEADER_SIZE);
	return loader;
}

void kv_store_load_between(struct kv_store_loader *loader, uint64_t applied_min, uint64_t applied_max)
{
	raft_assert(loader->offset == 0 && loader->have == 0);
	loader->applied_min = applied_min;
	loader->applied_max = applied_max;
}

struct kv_store_loader *kv_store_load_free(struct kv_store_loader *loader)
{
	if (loader != NULL) {
		kv_tree_builder_fini(&loader->builder);
		kv_record_unref(loader->record);
		kv_ring_unref(loader->session.ring);
		kv_store_free(loader->store);
		(void)XXH3_freeState(loader->checksum); /* never fails, takes NULL */
		free(loader);
	}
	return NULL;
}

static bool is_summed(enum kv_snapshot_part part)
{
	return part != KV_SNAPSHOT_END && part != KV_SNAPSHOT_NOTHING;
}

int kv_store_load_feed(struct kv_store_loader *loader, const uint8_t *bytes, size_t len)
{
	size_t taken = 0;
	bool ended = !is_summed(loader->part);

	raft_assert(loader->store != NULL);
	while (loader->result == KV_LOAD_OK && taken < len) {
		size_t missing = loader->size - loader->have;
		size_t n = missing < len - taken ? missing : len - taken;

		memcpy(loader->bytes + loader->have, bytes + taken, n);
		loader->have += n;
		loader->offset += n;
		taken += n;
		if (loader->have < loader->size)
			break;
		loader->result = take_part(loader);
		/* The checksum is taken of all that was fed at once, for speed, but must be complete before the end. */
		if (!ended && !is_summed(loader->part)) {
			(void)XXH3_64bits_update(loader->checksum, bytes, taken);
			ended = true;
		}
	}
	if (!ended)
		(void)XXH3_64bits_update(loader->checksum, bytes, taken);
	return loader->result;
}

int kv_store_load_finish(struct kv_store_loader *loader, struct kv_store **ret_store)
{
	raft_assert(loader->store != NULL);
	if (loader->result == KV_LOAD_OK && loader->part != KV_SNAPSHOT_NOTHING)
		loader->result = KV_LOAD_SHORT;
	if (loader->result != KV_LOAD_OK)
		return loader->result;
	loader->store->tree = kv_tree_builder_finish(&loader->builder);
	*ret_store = loader->store;
	loader->store = NULL;
	return KV_LOAD_OK;
}

uint64_t kv_store_load_offset(const struct kv_store_loader *loader)
{
	return loader->result == KV_LOAD_OK ? loader->offset : loader->item_offset;
}
