/*
 * etcd's own protocol, as far as a load needs it: unary gRPC calls KV/Put and KV/Range (linearizable) over cleartext
 * HTTP/2 (RFC 9113), each operation a stream, `depth` of them at a time. Written by hand so that the load costs the same
 * on both sides of a comparison, and without etcd's HTTP/JSON gateway, which would cost etcd something.
 *
 * Of a response only what matters is looked at: whether a message came (a failed call has none) and how long it was. So
 * header compression (HPACK, RFC 7541) need not be decoded; requests refer to three headers which the
 * first one of a connection put into the server's table.
 */
#include "tests/bench/load.h"

#include "daemon/assert.h"

#include <errno.h>
#include <string.h>

enum frame_type {
	FRAME_DATA = 0,
	FRAME_HEADERS = 1,
	FRAME_RST_STREAM = 3,
	FRAME_SETTINGS = 4,
	FRAME_PING = 6,
	FRAME_GOAWAY = 7,
	FRAME_WINDOW_UPDATE = 8,
};
#define FLAG_END_STREAM 0x1u
#define FLAG_ACK 0x1u
#define FLAG_END_HEADERS 0x4u
#define FRAME_HEADER_SIZE 9u
#define GRPC_HEADER_SIZE 5u
#define WINDOW_DEFAULT 65535
/* The servers' replies must never wait for this side. */
#define WINDOW_OWN (1u << 30)
#define WINDOW_REFRESH (1u << 28)
#define FRAME_OVERHEAD_MAX 256u

static uint8_t *put_u32(uint8_t *out, uint32_t value)
{
	out[0] = (uint8_t)(value >> 24);
	out[1] = (uint8_t)(value >> 16);
	out[2] = (uint8_t)(value >> 8);
	out[3] = (uint8_t)value;
	return out + 4;
}

static uint32_t get_u32(const uint8_t *in)
{
	return (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];
}

static uint8_t *put_frame_header(uint8_t *out, uint32_t size, enum frame_type type, unsigned flags, uint32_t stream)
{
	out[0] = (uint8_t)(size >> 16);
	out[1] = (uint8_t)(size >> 8);
	out[2] = (uint8_t)size;
	out[3] = (uint8_t)type;
	out[4] = (uint8_t)flags;
	return put_u32(out + 5, stream);
}

/* A string that is not compressed; shorter than 127 bytes. */
static uint8_t *put_string(uint8_t *out, const char *text)
{
	size_t size = strlen(text);
	raft_assert(size < 127);
	*out++ = (uint8_t)size;
	memcpy(out, text, size);
	return out + size;
}

static uint8_t *put_varint(uint8_t *out, size_t value)
{
	while (value >= 0x80) {
		*out++ = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	*out++ = (uint8_t)value;
	return out;
}

static size_t varint_size(size_t value)
{
	size_t n = 1;
	while (value >= 0x80) {
		value >>= 7;
		n++;
	}
	return n;
}

static int append_frame(struct connection *connection, enum frame_type type, unsigned flags, const uint8_t *payload,
			uint32_t size)
{
	uint8_t *out = load_reserve(connection, FRAME_HEADER_SIZE + size);
	if (out == NULL)
		return -ENOMEM;
	out = put_frame_header(out, size, type, flags, 0);
	if (size > 0)
		memcpy(out, payload, size);
	connection->out_size += FRAME_HEADER_SIZE + size;
	return 0;
}

static int etcd_begin(struct load *load, struct connection *connection)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	(void)load;
	connection->etcd = (struct etcd_state){.next_stream = 1, .send_window = WINDOW_DEFAULT};
	uint8_t *out = load_reserve(connection, sizeof preface - 1);
	if (out == NULL)
		return -ENOMEM;
	memcpy(out, preface, sizeof preface - 1);
	connection->out_size += sizeof preface - 1;
	uint8_t settings[6] = {0, 4}; /* INITIAL_WINDOW_SIZE, for each stream */
	uint8_t window[4];
	(void)put_u32(settings + 2, WINDOW_OWN);
	(void)put_u32(window, WINDOW_OWN);
	int r = append_frame(connection, FRAME_SETTINGS, 0, settings, sizeof settings);
	return r < 0 ? r : append_frame(connection, FRAME_WINDOW_UPDATE, 0, window, sizeof window);
}

/* Requests -------------------------------------------------------------------------------------------- */

static uint8_t *put_headers(uint8_t *out, bool get, bool first)
{
	*out++ = 0x83; /* :method POST */
	*out++ = 0x86; /* :scheme http */
	*out++ = 0x04; /* :path, not to be remembered */
	out = put_string(out, get ? "/etcdserverpb.KV/Range" : "/etcdserverpb.KV/Put");
	if (!first) {
		*out++ = 0xc0; /* table entries 64, 63, 62: see below */
		*out++ = 0xbf;
		*out++ = 0xbe;
		return out;
	}
	*out++ = 0x41; /* :authority, to be remembered: 64 in the end */
	out = put_string(out, "raft-bench");
	*out++ = 0x5f; /* content-type, to be remembered: 63 in the end */
	out = put_string(out, "application/grpc");
	*out++ = 0x40; /* a new name, to be remembered: 62 */
	out = put_string(out, "te");
	return put_string(out, "trailers");
}

static size_t message_size(const struct bench_options *options, bool get)
{
	size_t size = 1 + varint_size(options->key_size) + options->key_size;
	return get ? size : size + 1 + varint_size(options->value_size) + options->value_size;
}

static uint8_t *put_message(struct load *load, uint8_t *out, const struct workload_op *op)
{
	const struct bench_options *options = load->options;
	*out++ = 0x0a; /* field 1: key */
	out = put_varint(out, options->key_size);
	workload_write_key(&load->workload, op->key, out);
	out += options->key_size;
	if (op->get)
		return out;
	*out++ = 0x12; /* field 2: value */
	out = put_varint(out, options->value_size);
	memcpy(out, op->value, options->value_size);
	return out + options->value_size;
}

static struct slot *free_slot(const struct load *load, struct connection *connection)
{
	for (unsigned k = 0; k < load->options->depth; k++)
		if (connection->slots[k].stream == 0)
			return &connection->slots[k];
	return NULL;
}

static int etcd_request(struct load *load, struct connection *connection, const struct workload_op *op)
{
	struct etcd_state *etcd = &connection->etcd;
	uint32_t message = (uint32_t)message_size(load->options, op->get);
	uint32_t body = GRPC_HEADER_SIZE + message;
	if (etcd->send_window < (int64_t)body)
		return 0;
	struct slot *slot = free_slot(load, connection);
	raft_assert(slot != NULL);
	uint8_t *start = load_reserve(connection, body + FRAME_OVERHEAD_MAX);
	if (start == NULL)
		return -ENOMEM;
	uint8_t *headers = start + FRAME_HEADER_SIZE;
	uint8_t *out = put_headers(headers, op->get, etcd->next_stream == 1);
	(void)put_frame_header(start, (uint32_t)(out - headers), FRAME_HEADERS, FLAG_END_HEADERS, etcd->next_stream);
	out = put_frame_header(out, body, FRAME_DATA, FLAG_END_STREAM, etcd->next_stream);
	*out++ = 0; /* not compressed */
	out = put_u32(out, message);
	out = put_message(load, out, op);
	raft_assert((size_t)(out - start) <= body + FRAME_OVERHEAD_MAX);
	connection->out_size += (size_t)(out - start);
	etcd->send_window -= body;
	*slot = (struct slot){.started_ns = load->now_ns, .stream = etcd->next_stream, .get = op->get};
	etcd->next_stream += 2;
	return 1;
}

/* Replies --------------------------------------------------------------------------------------------- */

static struct slot *find_slot(const struct load *load, struct connection *connection, uint32_t stream)
{
	for (unsigned k = 0; k < load->options->depth; k++)
		if (connection->slots[k].stream == stream)
			return &connection->slots[k];
	return NULL;
}

static void end_stream(struct load *load, struct connection *connection, struct slot *slot, bool reset)
{
	static const char failed[] = "a gRPC call failed";
	enum outcome outcome = OUTCOME_DONE;
	if (reset || slot->bytes == 0)
		outcome = OUTCOME_ERROR;
	else if (slot->get && slot->bytes <= load->options->value_size)
		outcome = OUTCOME_NOT_FOUND;
	slot->stream = 0;
	load_complete(load, connection, slot, outcome, (const uint8_t *)failed, sizeof failed - 1);
}

static int take_settings(struct connection *connection, unsigned flags)
{
	/* None of them matters to requests this small, but the server wants to know that they were seen. */
	return (flags & FLAG_ACK) != 0 ? 0 : append_frame(connection, FRAME_SETTINGS, FLAG_ACK, NULL, 0);
}

static int take_frame(struct load *load, struct connection *connection)
{
	struct etcd_state *etcd = &connection->etcd;
	unsigned flags = etcd->header[4];
	uint32_t stream = get_u32(etcd->header + 5) & 0x7fffffffu;
	struct slot *slot = stream != 0 ? find_slot(load, connection, stream) : NULL;
	switch ((enum frame_type)etcd->header[3]) {
	case FRAME_DATA:
	case FRAME_HEADERS:
		if (slot != NULL && (flags & FLAG_END_STREAM) != 0)
			end_stream(load, connection, slot, false);
		return 0;
	case FRAME_RST_STREAM:
		if (slot != NULL)
			end_stream(load, connection, slot, true);
		return 0;
	case FRAME_SETTINGS:
		return take_settings(connection, flags);
	case FRAME_PING:
		if ((flags & FLAG_ACK) != 0 || etcd->payload_size < 8)
			return 0;
		return append_frame(connection, FRAME_PING, FLAG_ACK, etcd->payload, 8);
	case FRAME_WINDOW_UPDATE:
		if (stream == 0 && etcd->payload_size >= 4)
			etcd->send_window += get_u32(etcd->payload) & 0x7fffffffu;
		return 0;
	case FRAME_GOAWAY:
		break; /* the connection is closed next, and that is noticed */
	}
	return 0;
}

/* Takes a part of the payload of the frame at hand. */
static void take_payload(struct load *load, struct connection *connection, const uint8_t *data, uint32_t size)
{
	struct etcd_state *etcd = &connection->etcd;
	uint32_t keep = (uint32_t)sizeof etcd->payload - etcd->payload_size;
	if (keep > size)
		keep = size;
	memcpy(etcd->payload + etcd->payload_size, data, keep);
	etcd->payload_size += keep;
	etcd->payload_left -= size;
	if (etcd->header[3] != FRAME_DATA)
		return;
	etcd->received += size;
	struct slot *slot = find_slot(load, connection, get_u32(etcd->header + 5) & 0x7fffffffu);
	if (slot != NULL)
		slot->bytes += size;
}

static int refresh_window(struct connection *connection)
{
	uint8_t window[4];
	if (connection->etcd.received < WINDOW_REFRESH)
		return 0;
	(void)put_u32(window, connection->etcd.received);
	connection->etcd.received = 0;
	return append_frame(connection, FRAME_WINDOW_UPDATE, 0, window, sizeof window);
}

static int etcd_receive(struct load *load, struct connection *connection, const uint8_t *data, size_t size)
{
	struct etcd_state *etcd = &connection->etcd;
	const uint8_t *end = data + size;
	while (data < end) {
		if (etcd->header_size < FRAME_HEADER_SIZE) {
			etcd->header[etcd->header_size++] = *data++;
			if (etcd->header_size < FRAME_HEADER_SIZE)
				continue;
			etcd->payload_left = get_u32(etcd->header) >> 8;
			etcd->payload_size = 0;
		}
		uint32_t n = etcd->payload_left;
		if (n > (size_t)(end - data))
			n = (uint32_t)(end - data);
		take_payload(load, connection, data, n);
		data += n;
		if (etcd->payload_left > 0)
			return 0;
		etcd->header_size = 0;
		int r = take_frame(load, connection);
		if (r < 0)
			return r;
	}
	return refresh_window(connection);
}

const struct protocol etcd_protocol = {.begin = etcd_begin, .request = etcd_request, .receive = etcd_receive};
