/*
 * Bodies and frames that no correct client or member writes: a bit flips, bytes are missing or too many, a number is as big as it
 * can be; where there is a checksum, it may be that of the wrong bytes. There is one way to write each of them, so what a decoder
 * takes must be what the encoder makes of it again; everything else has to be refused.
 */
#include "codec.h"

#include "daemon/assert.h"
#include "kv/admin.h"
#include "kv/backup.h"
#include "kv/bytes.h"
#include "kv/request.h"

#include <stdlib.h>
#include <string.h>

/* What each decodes is encoded again, with room for all that was decoded. Returns the size; 0: refused. */
static size_t again_get(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	uint8_t flags;
	const uint8_t *key;
	size_t key_size;
	if (!kv_get_decode(bytes, size, &flags, &key, &key_size))
		return 0;
	kv_get_encode(ret, flags, key, key_size);
	return KV_GET_BODY_SIZE(key_size);
}

static size_t again_dump(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_dump_request request;
	if (!kv_dump_decode(bytes, size, &request))
		return 0;
	kv_dump_encode(ret, &request);
	return KV_DUMP_BODY_SIZE(request.key_size);
}

static size_t again_log(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	uint64_t first;
	uint32_t most;
	if (!kv_log_decode(bytes, size, &first, &most))
		return 0;
	kv_log_encode(ret, first, most);
	return KV_LOG_BODY_SIZE;
}

static size_t again_transfer(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	uint64_t target;
	if (!kv_transfer_decode(bytes, size, &target))
		return 0;
	kv_transfer_encode(ret, target);
	return KV_TRANSFER_BODY_SIZE;
}

static size_t again_change(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_change change;
	if (!kv_change_decode(bytes, size, &change))
		return 0;
	kv_change_encode(ret, &change);
	return kv_change_size(&change);
}

static size_t again_backup(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_backup_request request;
	if (!kv_backup_decode(bytes, size, &request))
		return 0;
	kv_backup_encode(ret, &request);
	return KV_BACKUP_BODY_SIZE;
}

static size_t again_command(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_command command;
	if (kv_command_decode(bytes, size, &command) != KV_DECODE_OK)
		return 0;
	kv_command_encode(&command, ret);
	return kv_command_size(&command);
}

static size_t again_reply(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_answer_body answer;
	if (!kv_reply_decode(bytes, size, &answer))
		return 0;
	kv_reply_encode(ret, &answer);
	return KV_REPLY_BODY_SIZE(answer.size);
}

/* Other versions have fewer numbers, or more. */
static size_t again_status(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_member_status status;
	if (!kv_status_decode(bytes, size, &status))
		return 0;
	if (size < KV_STATUS_SIZE) {
		memcpy(ret, bytes, size);
		return size;
	}
	kv_status_encode(ret, &status);
	memcpy(ret + KV_STATUS_SIZE, bytes + KV_STATUS_SIZE, size - KV_STATUS_SIZE);
	return size;
}

static size_t again_membership(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_membership membership;
	if (!kv_membership_decode(bytes, size, &membership))
		return 0;
	kv_membership_encode(ret, &membership);
	return kv_membership_size(&membership);
}

static size_t again_dump_page(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_dump_page page;
	struct kv_item item;
	if (!kv_dump_page_decode(bytes, size, &page))
		return 0;
	kv_dump_page_encode(ret, &page);
	size_t at = KV_DUMP_PAGE_HEADER_SIZE;
	while (kv_dump_item_decode(&page, &item)) {
		kv_dump_item_encode(ret + at, &item);
		at += KV_DUMP_ITEM_SIZE(item.key_size, item.value_size);
	}
	return at;
}

static size_t again_log_page(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_log_page page;
	struct kv_log_item item;
	if (!kv_log_page_decode(bytes, size, &page))
		return 0;
	kv_log_page_encode(ret, &page);
	size_t at = KV_LOG_PAGE_HEADER_SIZE;
	while (kv_log_item_decode(&page, &item)) {
		kv_log_item_encode(ret + at, &item);
		at += KV_LOG_ITEM_SIZE(item.size);
	}
	return at;
}

static size_t again_backup_header(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_backup_header header;
	if (kv_backup_header_decode(bytes, size, &header) != KV_BACKUP_OK)
		return 0;
	kv_backup_header_encode(ret, &header);
	memcpy(ret + KV_BACKUP_HEADER_SIZE, bytes + KV_BACKUP_HEADER_SIZE, size - KV_BACKUP_HEADER_SIZE);
	return size; /* the stream follows */
}

static size_t again_beats_request(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	uint64_t after;
	if (!kv_beats_request_decode(bytes, size, &after))
		return 0;
	kv_beats_request_encode(ret, after);
	return KV_BEATS_BODY_SIZE;
}

static size_t again_beats(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	struct kv_beats beats;
	if (!kv_beats_decode(bytes, size, &beats))
		return 0;
	kv_beats_encode(ret, &beats);
	return kv_beats_size(&beats);
}

#define FRAME_AT_KIND 5u
#define FRAME_AT_SIZE 12u
#define FRAME_AT_CHECKSUM 24u

static size_t again_frame(const uint8_t *bytes, size_t size, uint8_t *ret)
{
	uint8_t kind = size > FRAME_AT_KIND ? bytes[FRAME_AT_KIND] : 0;
	struct kv_frame_reader reader;
	struct kv_frame_item item;
	struct kv_frame frame = {0};
	if (kv_frame_read(bytes, size, kind, SIM_CLUSTER, &reader) != KV_FRAME_OK)
		return 0;
	if (reader.left == 0) {
		memcpy(ret, bytes, size); /* empty ones are never sent */
		return size;
	}
	while (kv_frame_next(&reader, &item)) {
		uint8_t *body = kv_frame_add(&frame, item.id, item.type, item.size);
		raft_assert(body != NULL);
		memcpy(body, item.body, item.size);
	}
	kv_frame_finish(&frame, kind, SIM_CLUSTER);
	size_t len = frame.len < size ? frame.len : size;
	memcpy(ret, frame.buf, len);
	kv_frame_free(&frame);
	return len;
}

/* Size and checksum are those of the bytes, whatever these are. */
static void seal_frame(uint8_t *bytes, size_t size)
{
	if (size < KV_FRAME_HEADER_SIZE)
		return;
	kv_put_u32(bytes + FRAME_AT_SIZE, (uint32_t)size);
	kv_put_u64(bytes + FRAME_AT_CHECKSUM, 0);
	kv_put_u64(bytes + FRAME_AT_CHECKSUM, XXH3_64bits(bytes, size));
}

static void seal_backup_header(uint8_t *bytes, size_t size)
{
	size_t end = KV_BACKUP_HEADER_SIZE - sizeof(uint64_t);
	if (size >= KV_BACKUP_HEADER_SIZE)
		kv_put_u64(bytes + end, XXH3_64bits(bytes, end));
}

static const struct {
	const char *name;
	size_t (*again)(const uint8_t *bytes, size_t size, uint8_t *ret);
	void (*seal)(uint8_t *bytes, size_t size); /* NULL: it has no checksum */
} codecs[] = {
	[SIM_CODEC_GET] = {"get", again_get, NULL},
	[SIM_CODEC_DUMP] = {"dump", again_dump, NULL},
	[SIM_CODEC_LOG] = {"log", again_log, NULL},
	[SIM_CODEC_TRANSFER] = {"transfer", again_transfer, NULL},
	[SIM_CODEC_CHANGE] = {"change", again_change, NULL},
	[SIM_CODEC_BACKUP] = {"backup", again_backup, NULL},
	[SIM_CODEC_COMMAND] = {"command", again_command, NULL},
	[SIM_CODEC_REPLY] = {"reply", again_reply, NULL},
	[SIM_CODEC_STATUS] = {"status", again_status, NULL},
	[SIM_CODEC_MEMBERSHIP] = {"membership", again_membership, NULL},
	[SIM_CODEC_DUMP_PAGE] = {"page of a state", again_dump_page, NULL},
	[SIM_CODEC_LOG_PAGE] = {"page of a log", again_log_page, NULL},
	[SIM_CODEC_BACKUP_HEADER] = {"head of a backup", again_backup_header, seal_backup_header},
	[SIM_CODEC_BEATS_REQUEST] = {"request for beats", again_beats_request, NULL},
	[SIM_CODEC_BEATS] = {"list of beats", again_beats, NULL},
	[SIM_CODEC_FRAME] = {"frame", again_frame, seal_frame},
};

#define MORE_MAX 16u
#define AGAIN_MORE 64u /* what an encoder may write beyond, before that is found */

/* Most numbers are near the beginning, of a body or of an item, and small ones say what or how much. */
static size_t distort(uint8_t *bytes, size_t size, struct sim_random *random)
{
	static const uint8_t extremes[] = {0, 1, 2, 0x7f, 0x80, 0xff};
	uint64_t how = sim_random_below(random, 8);
	if (how == 0)
		return sim_random_below(random, size + 1);
	if (how == 1) {
		size_t more = 1 + sim_random_below(random, MORE_MAX);
		memset(bytes + size, (int)sim_random_below(random, 2), more);
		return size + more;
	}
	if (size == 0)
		return size;
	size_t near = size < 48 ? size : 48;
	size_t at = sim_random_below(random, how < 6 ? near : size);
	if (how % 2 == 0)
		bytes[at] ^= (uint8_t)(1u << sim_random_below(random, 8));
	else
		bytes[at] = extremes[sim_random_below(random, sizeof extremes)];
	return size;
}

void sim_codec_distort(struct sim *sim, struct sim_random *random, enum sim_codec codec, const uint8_t *bytes, size_t size)
{
	if (codec == SIM_CODEC_NONE)
		return;
	/* Exactly as long as the body: a decoder that reads beyond it is found by the sanitizers. */
	uint8_t *copy = malloc(size + MORE_MAX);
	raft_assert(copy != NULL);
	memcpy(copy, bytes, size);
	size_t distorted = distort(copy, size, random);
	if (codecs[codec].seal != NULL && sim_random_below(random, 4) > 0)
		codecs[codec].seal(copy, distorted);
	copy = realloc(copy, distorted > 0 ? distorted : 1);
	uint8_t *again = malloc(distorted + AGAIN_MORE);
	raft_assert(copy != NULL && again != NULL);
	size_t written = codecs[codec].again(copy, distorted, again);
	if (written != 0 && (written != distorted || memcmp(copy, again, written) != 0))
		sim_fail(sim, "a malformed %s of %zu bytes is taken for one of %zu bytes", codecs[codec].name, distorted,
			 written);
	sim->counts.bodies_refused += written == 0;
	free(copy);
	free(again);
}
