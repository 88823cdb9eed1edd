/* See request.h: making requests. */
#include "bridge/request.h"

#include "daemon/assert.h"
#include "kv/command.h"

#include <string.h>

static enum kv_operation operation_of(enum line_command command)
{
	switch (command) {
	case LINE_PUT:
		return KV_PUT;
	case LINE_DELETE:
		return KV_DELETE;
	case LINE_CAS:
		return KV_CAS;
	case LINE_GET:
	case LINE_HELP:
	case LINE_STATUS:
	case LINE_PING:
	case LINE_QUIT:
		break;
	}
	return KV_NOTHING;
}

static enum request_kind kind_of(const struct line_request *line)
{
	switch (line->command) {
	case LINE_PUT:
	case LINE_DELETE:
	case LINE_CAS:
		return REQUEST_WRITE;
	case LINE_GET:
		return line->stale ? REQUEST_STALE : REQUEST_READ;
	case LINE_STATUS:
		return REQUEST_STATUS;
	case LINE_HELP:
	case LINE_PING:
	case LINE_QUIT:
		break;
	}
	return REQUEST_LOCAL;
}

struct request *request_new(struct pool *pool, const struct line_request *line)
{
	size_t capacity;
	raft_assert(line->key.size <= KV_KEY_SIZE_MAX && line->value.size <= KV_VALUE_SIZE_MAX);
	struct request *request = pool_get(pool, sizeof(struct request) + line->key.size + line->value.size, &capacity);
	if (request == NULL)
		return NULL;
	raft_assert(capacity <= UINT32_MAX);
	*request = (struct request){
		.kind = (uint8_t)kind_of(line),
		.operation = (uint8_t)operation_of(line->command),
		.expected = line->expected,
		.key_size = (uint16_t)line->key.size,
		.value_size = (uint32_t)line->value.size,
		.capacity = (uint32_t)capacity,
	};
	if (line->key.size > 0)
		memcpy(request->bytes, line->key.data, line->key.size);
	if (line->value.size > 0)
		memcpy(request->bytes + line->key.size, line->value.data, line->value.size);
	return request;
}
