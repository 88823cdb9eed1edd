/*
 * What the loop (load.c) and a protocol share: connections with their unanswered operations. A protocol turns an
 * operation into bytes appended to a connection, and bytes received into calls of load_complete; it does no I/O.
 */
#ifndef RAFT_BENCH_LOAD_H
#define RAFT_BENCH_LOAD_H

#include "tests/bench/bench.h"
#include "tests/bench/workload.h"

struct load;

/* An operation that is not answered yet. */
struct slot {
	uint64_t started_ns;
	uint32_t stream; /* etcd: its stream, 0: the slot is free */
	uint32_t bytes;	 /* etcd: of the reply so far */
	bool get;
};

struct line_state {
	unsigned head; /* slot of the oldest operation: replies come in order */
	uint8_t first; /* byte of the line at hand */
	bool in_line;  /* its first byte has been seen */
};

struct etcd_state {
	uint32_t next_stream;
	int64_t send_window; /* what etcd will take on this connection, as it told */
	uint8_t header[9];   /* of the frame at hand */
	unsigned header_size;
	uint32_t payload_left;
	uint8_t payload[64]; /* the first bytes: all that is looked at is at the front */
	unsigned payload_size;
	uint32_t received; /* since the last window update */
};

struct connection {
	int fd; /* -1: closed */
	bool waits_for_room;
	uint8_t *out;
	size_t out_size, out_sent, out_capacity;
	unsigned outstanding;
	struct slot *slots; /* options->depth of them */
	union {
		struct line_state line;
		struct etcd_state etcd;
	};
};

struct protocol {
	/* Appends what a new connection begins with. 0 or -ENOMEM. */
	int (*begin)(struct load *load, struct connection *connection);
	/* Appends one operation; there is a free slot. 1: done, 0: not now (flow control), -ENOMEM. */
	int (*request)(struct load *load, struct connection *connection, const struct workload_op *op);
	/* Takes bytes received. 0, or -EPROTO when they make no sense, -ENOMEM. */
	int (*receive)(struct load *load, struct connection *connection, const uint8_t *data, size_t size);
};
extern const struct protocol line_protocol;
extern const struct protocol etcd_protocol;

enum outcome { OUTCOME_DONE, OUTCOME_NOT_FOUND, OUTCOME_ERROR };

struct load {
	const struct bench_options *options;
	const struct protocol *protocol;
	struct workload workload;
	struct bench_result *result;
	struct connection *connections;
	unsigned n_open;
	int epoll;
	uint64_t now_ns;
	bool measuring;
	bool issuing;
	uint64_t issued;      /* while measuring */
	uint64_t outstanding; /* of all connections */
	uint8_t *input;	      /* what is being received */
};

/* Room for size more bytes at the end of what is to be sent: the caller fills it and adds to out_size. NULL: no memory. */
uint8_t *load_reserve(struct connection *connection, size_t size);
/* The operation in slot is answered. text: of an error. */
void load_complete(struct load *load, struct connection *connection, struct slot *slot, enum outcome outcome,
		   const uint8_t *text, size_t size);

#endif
