/*
 * What the tests of single ZeroMQ sockets share: a connected pair, and waiting with a deadline.
 */
#ifndef TESTS_UNIT_ZMQ_FIXTURE_H
#define TESTS_UNIT_ZMQ_FIXTURE_H

#include "daemon/transport/zmq_socket.h"
#include "tests/unit/zmtp_raw.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DEADLINE_MS 10000
#define FRAME_SIZE_MAX 100000

struct pair {
	struct zmq_context *context;
	struct zmq_socket *router, *dealer;
	uint16_t port;
	char endpoint[64];
};

static const struct zmq_socket_options router_options = {
	.kind = ZMQ_SOCKET_ROUTER,
	.send_queue_frames = 1000,
	.receive_queue_frames = 30000,
	.frame_size_max = FRAME_SIZE_MAX,
};
static const struct zmq_socket_options dealer_options = {
	.kind = ZMQ_SOCKET_DEALER,
	.send_queue_frames = 30000,
	.receive_queue_frames = 1000,
	.frame_size_max = FRAME_SIZE_MAX,
	.monitor = true,
};

/* Waits for a frame. False at the deadline. */
static inline bool take(struct zmq_socket *socket, struct zmq_identity *ret_from, const uint8_t **ret_data,
			size_t *ret_len)
{
	int64_t deadline = now_ms() + DEADLINE_MS;
	do {
		int r = zmq_socket_receive(socket, ret_from, ret_data, ret_len);
		assert_true(r >= 0);
		if (r == 1)
			return true;
		if (!zmq_socket_pending(socket))
			wait_readable(zmq_socket_fd(socket), 100);
	} while (now_ms() < deadline);
	return false;
}

static inline void assert_takes(struct zmq_socket *socket, const char *text)
{
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	assert_true(take(socket, &from, &data, &len));
	assert_int_equal(len, strlen(text));
	assert_memory_equal(data, text, len);
}

static inline enum zmq_socket_link wait_link(struct zmq_socket *socket)
{
	int64_t deadline = now_ms() + DEADLINE_MS;
	enum zmq_socket_link link;
	while ((link = zmq_socket_link_event(socket)) == ZMQ_LINK_NONE && now_ms() < deadline)
		wait_readable(zmq_socket_monitor_fd(socket), 100);
	return link;
}

static inline int send_text(struct zmq_socket *socket, const struct zmq_identity *to, const char *text)
{
	return zmq_socket_send(socket, to, (const uint8_t *)text, strlen(text));
}

static inline void pair_open(struct pair *pair)
{
	assert_int_equal(zmq_context_new(&pair->context), 0);
	pair->port = free_port(AF_INET);
	snprintf(pair->endpoint, sizeof(pair->endpoint), "tcp://127.0.0.1:%u", pair->port);
	assert_int_equal(zmq_socket_open(pair->context, &router_options, pair->endpoint, &pair->router), 0);
	assert_int_equal(zmq_socket_open(pair->context, &dealer_options, pair->endpoint, &pair->dealer), 0);
	assert_int_equal(wait_link(pair->dealer), ZMQ_LINK_UP);
}

static inline void pair_close(struct pair *pair)
{
	assert_null(zmq_socket_free(pair->dealer));
	assert_null(zmq_socket_free(pair->router));
	assert_null(zmq_context_free(pair->context));
}

#endif
