/*
 * Writing a snapshot as bytes. See snapshot_stream.h.
 *
 * The stream is a sequence of spans: a record is handed out as it lies in memory, everything else is put together in a
 * small buffer first. A span that does not fit the caller's block goes on in the next one.
 */
#include "kv/snapshot_stream.h"

#include "daemon/assert.h"
#include "kv/bytes.h"
#include "kv/snapshot_format.h"
#include "kv/state.h"

#include <stdlib.h>
#include <xxhash.h>

struct kv_snapshot_stream {
	const struct kv_snapshot *snapshot;
	XXH3_state_t *checksum; /* of all before the end */
	enum kv_snapshot_part next;
	uint32_t session; /* the next one, or the one whose replies are next */
	uint64_t reply;	  /* sequence number of the next one */
	struct kv_path path;
	const uint8_t *span; /* what is left of it */
	size_t span_size;
	uint8_t buf[KV_SNAPSHOT_REPLIES_AT_ONCE * KV_SNAPSHOT_REPLY_SIZE];
};
_Static_assert(sizeof(((struct kv_snapshot_stream *)NULL)->buf) >= KV_SNAPSHOT_HEADER_SIZE, "the header fits");
_Static_assert(sizeof(((struct kv_snapshot_stream *)NULL)->buf) >= KV_SNAPSHOT_SESSION_SIZE, "a session fits");

struct kv_snapshot_stream *kv_snapshot_stream_new(const struct kv_snapshot *snapshot)
{
	struct kv_snapshot_stream *stream = malloc(sizeof(*stream));

	if (stream == NULL)
		return NULL;
	stream->checksum = XXH3_createState();
	if (stream->checksum == NULL) {
		free(stream);
		return NULL;
	}
	(void)XXH3_64bits_reset(stream->checksum); /* fails for a null pointer only */
	stream->snapshot = snapshot;
	stream->next = KV_SNAPSHOT_HEADER;
	stream->session = 0;
	stream->span_size = 0;
	return stream;
}

struct kv_snapshot_stream *kv_snapshot_stream_free(struct kv_snapshot_stream *stream)
{
	if (stream != NULL) {
		(void)XXH3_freeState(stream->checksum); /* never fails */
		free(stream);
	}
	return NULL;
}

uint64_t kv_snapshot_stream_size(const struct kv_snapshot *snapshot)
{
	return KV_SNAPSHOT_HEADER_SIZE + (uint64_t)snapshot->session_count * KV_SNAPSHOT_SESSION_SIZE +
	       snapshot->kept_replies * KV_SNAPSHOT_REPLY_SIZE + snapshot->record_bytes + KV_SNAPSHOT_END_SIZE;
}

/* Each of these makes the next span, which may be empty, and says what comes after it. --------------------- */

static void span_from_buf(struct kv_snapshot_stream *stream, size_t size)
{
	raft_assert(size <= sizeof(stream->buf));
	stream->span = stream->buf;
	stream->span_size = size;
}

static void write_header(struct kv_snapshot_stream *stream)
{
	const struct kv_snapshot *snapshot = stream->snapshot;

	memcpy(stream->buf + KV_SNAPSHOT_OFFSET_MAGIC, KV_SNAPSHOT_MAGIC, strlen(KV_SNAPSHOT_MAGIC));
	kv_put_u16(stream->buf + KV_SNAPSHOT_OFFSET_VERSION, KV_SNAPSHOT_VERSION);
	kv_put_u16(stream->buf + KV_SNAPSHOT_OFFSET_RESERVED, 0);
	kv_put_u64(stream->buf + KV_SNAPSHOT_OFFSET_APPLIED, snapshot->applied);
	kv_put_u64(stream->buf + KV_SNAPSHOT_OFFSET_KEYS, snapshot->keys);
	kv_put_u32(stream->buf + KV_SNAPSHOT_OFFSET_SESSIONS, snapshot->session_count);
	kv_put_u32(stream->buf + KV_SNAPSHOT_OFFSET_RESERVED_2, 0);
	span_from_buf(stream, KV_SNAPSHOT_HEADER_SIZE);
	stream->next = KV_SNAPSHOT_SESSION;
}

static void begin_records(struct kv_snapshot_stream *stream)
{
	kv_tree_seek(stream->snapshot->root, NULL, 0, &stream->path);
	stream->next = kv_path_settle(&stream->path) ? KV_SNAPSHOT_RECORD : KV_SNAPSHOT_END;
}

static void write_session(struct kv_snapshot_stream *stream)
{
	const struct kv_session_image *session = &stream->snapshot->sessions[stream->session];

	if (stream->session == stream->snapshot->session_count) {
		begin_records(stream);
		return;
	}
	kv_put_u64(stream->buf + KV_SNAPSHOT_SESSION_OFFSET_ID, session->id);
	kv_put_u64(stream->buf + KV_SNAPSHOT_SESSION_OFFSET_LAST, session->last);
	kv_put_u64(stream->buf + KV_SNAPSHOT_SESSION_OFFSET_ACKNOWLEDGED, session->acknowledged);
	kv_put_u64(stream->buf + KV_SNAPSHOT_SESSION_OFFSET_USED, session->used);
	span_from_buf(stream, KV_SNAPSHOT_SESSION_SIZE);
	stream->reply = session->acknowledged;
	stream->next = KV_SNAPSHOT_REPLIES;
}

static void write_replies(struct kv_snapshot_stream *stream)
{
	const struct kv_session_image *session = &stream->snapshot->sessions[stream->session];
	size_t size = 0;

	for (; stream->reply <= session->last && size < sizeof(stream->buf); stream->reply++) {
		kv_put_u64(stream->buf + size, *kv_ring_at(session->ring, stream->reply));
		size += KV_SNAPSHOT_REPLY_SIZE;
	}
	span_from_buf(stream, size);
	if (stream->reply > session->last) {
		stream->session++;
		stream->next = KV_SNAPSHOT_SESSION;
	}
}

static void write_record(struct kv_snapshot_stream *stream)
{
	stream->span = kv_record_image(kv_path_record(&stream->path), &stream->span_size);
	stream->next = kv_path_next(&stream->path) ? KV_SNAPSHOT_RECORD : KV_SNAPSHOT_END;
}

static void write_end(struct kv_snapshot_stream *stream)
{
	kv_put_u64(stream->buf + KV_SNAPSHOT_END_OFFSET_HASH, stream->snapshot->hash);
	kv_put_u64(stream->buf + KV_SNAPSHOT_END_OFFSET_CHECKSUM, XXH3_64bits_digest(stream->checksum));
	span_from_buf(stream, KV_SNAPSHOT_END_SIZE);
	stream->next = KV_SNAPSHOT_NOTHING;
}

static void write_next(struct kv_snapshot_stream *stream)
{
	switch (stream->next) {
	case KV_SNAPSHOT_HEADER:
		write_header(stream);
		return;
	case KV_SNAPSHOT_SESSION:
		write_session(stream);
		return;
	case KV_SNAPSHOT_REPLIES:
		write_replies(stream);
		return;
	case KV_SNAPSHOT_RECORD:
		write_record(stream);
		return;
	case KV_SNAPSHOT_END:
	case KV_SNAPSHOT_RECORD_BYTES: /* is written with its record */
	case KV_SNAPSHOT_NOTHING:
		break;
	}
	raft_assert(stream->next == KV_SNAPSHOT_END);
	write_end(stream);
}

size_t kv_snapshot_stream_read(struct kv_snapshot_stream *stream, uint8_t *buf, size_t capacity)
{
	size_t size = 0;

	raft_assert(capacity > 0);
	while (size < capacity) {
		size_t n = stream->span_size < capacity - size ? stream->span_size : capacity - size;

		if (n > 0) {
			memcpy(buf + size, stream->span, n);
			size += n;
			stream->span += n;
			stream->span_size -= n;
			continue;
		}
		if (stream->next == KV_SNAPSHOT_NOTHING)
			break;
		/* The checksum is taken of whole blocks, for speed, but must be complete when the end is written. */
		if (stream->next == KV_SNAPSHOT_END)
			(void)XXH3_64bits_update(stream->checksum, buf, size);
		write_next(stream);
	}
	if (stream->next != KV_SNAPSHOT_NOTHING)
		(void)XXH3_64bits_update(stream->checksum, buf, size);
	return size;
}
