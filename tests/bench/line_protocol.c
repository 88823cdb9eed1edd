/*
 * The line protocol of raft-bridge, as far as a load needs it: put and get out, one line a reply in, in order. Of a reply
 * only the first byte is looked at; what else the line holds is skipped with memchr.
 */
#include "tests/bench/load.h"

#include "daemon/assert.h"

#include <errno.h>
#include <string.h>

static int line_begin(struct load *load, struct connection *connection)
{
	(void)load;
	connection->line = (struct line_state){0};
	return 0;
}

static int line_request(struct load *load, struct connection *connection, const struct workload_op *op)
{
	const struct bench_options *options = load->options;
	size_t size = 4 + options->key_size + (op->get ? 0 : 1 + options->value_size) + 1;
	uint8_t *out = load_reserve(connection, size);
	if (out == NULL)
		return -ENOMEM;
	memcpy(out, op->get ? "get " : "put ", 4);
	out += 4;
	workload_write_key(&load->workload, op->key, out);
	out += options->key_size;
	if (!op->get) {
		*out++ = ' ';
		memcpy(out, op->value, options->value_size);
		out += options->value_size;
	}
	*out++ = '\n';
	connection->out_size += size;
	raft_assert(out == connection->out + connection->out_size);
	unsigned slot = connection->line.head + connection->outstanding;
	if (slot >= options->depth)
		slot -= options->depth;
	connection->slots[slot] = (struct slot){.started_ns = load->now_ns, .get = op->get};
	return 1;
}

static enum outcome outcome_of(uint8_t first, bool get)
{
	if (first == (get ? 'V' : 'O'))
		return OUTCOME_DONE;
	return get && first == 'N' ? OUTCOME_NOT_FOUND : OUTCOME_ERROR;
}

static int line_receive(struct load *load, struct connection *connection, const uint8_t *data, size_t size)
{
	struct line_state *line = &connection->line;
	const uint8_t *end = data + size;
	while (data < end) {
		const uint8_t *start = data;
		if (!line->in_line) {
			line->first = *data;
			line->in_line = true;
		}
		const uint8_t *newline = memchr(data, '\n', (size_t)(end - data));
		if (newline == NULL)
			return 0;
		if (connection->outstanding == 0)
			return -EPROTO; /* a reply to nothing */
		struct slot *slot = &connection->slots[line->head];
		line->in_line = false;
		line->head = line->head + 1 == load->options->depth ? 0 : line->head + 1;
		load_complete(load, connection, slot, outcome_of(line->first, slot->get), start,
			      (size_t)(newline - start));
		data = newline + 1;
	}
	return 0;
}

const struct protocol line_protocol = {.begin = line_begin, .request = line_request, .receive = line_receive};
