/*
 * One ZeroMQ socket: no message is missed whatever the descriptor says, garbage is skipped and counted, nothing blocks,
 * and no bytes on the port hurt.
 */
#include "daemon/transport/zmq_socket.h"
#include "tests/unit/zmq_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* The edge-triggered descriptor ------------------------------------------------------------------------ */

#define BURST 20000u

static void send_burst(struct pair *pair)
{
	for (uint32_t n = 0; n < BURST; n++)
		assert_int_equal(zmq_socket_send(pair->dealer, NULL, (const uint8_t *)&n, sizeof(n)), 0);
}

static void assert_is_number(const uint8_t *data, size_t len, uint32_t expected)
{
	uint32_t number;
	assert_int_equal(len, sizeof(number));
	memcpy(&number, data, sizeof(number));
	assert_int_equal(number, expected);
}

static void test_a_burst_arrives_whole_when_every_wake_up_drains(void **state)
{
	(void)state;
	struct pair pair;
	pair_open(&pair);
	send_burst(&pair);
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	uint32_t received = 0;
	while (received < BURST) {
		assert_true(wait_readable(zmq_socket_fd(pair.router), DEADLINE_MS));
		while (zmq_socket_receive(pair.router, &from, &data, &len) == 1)
			assert_is_number(data, len, received++);
	}
	assert_false(zmq_socket_pending(pair.router));
	pair_close(&pair);
}

/* What a loop does that takes only so much in one turn: asks before sleeping, and then need not drain. */
static void test_a_burst_arrives_whole_when_pending_is_asked_before_sleeping(void **state)
{
	(void)state;
	struct pair pair;
	pair_open(&pair);
	send_burst(&pair);
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	uint32_t received = 0, wakes = 0;
	while (received < BURST) {
		if (!zmq_socket_pending(pair.router)) {
			assert_true(wait_readable(zmq_socket_fd(pair.router), DEADLINE_MS));
			wakes++;
		}
		if (zmq_socket_receive(pair.router, &from, &data, &len) == 1)
			assert_is_number(data, len, received++);
	}
	assert_true(wakes < BURST);
	pair_close(&pair);
}

static void test_a_send_may_take_the_signal_but_not_the_message(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	pair_open(&pair);
	assert_int_equal(send_text(pair.dealer, NULL, "first"), 0);
	assert_true(take(pair.router, &from, &data, &len));
	while (zmq_socket_receive(pair.router, &from, &data, &len) == 1)
		;
	assert_false(wait_readable(zmq_socket_fd(pair.router), 0));

	assert_int_equal(send_text(pair.dealer, NULL, "second"), 0);
	assert_true(wait_readable(zmq_socket_fd(pair.router), DEADLINE_MS));
	int64_t deadline = now_ms() + DEADLINE_MS;
	while (wait_readable(zmq_socket_fd(pair.router), 0)) { /* libzmq looks into its mailbox now and then only */
		assert_true(now_ms() < deadline);
		int r = send_text(pair.router, &from, "unrelated");
		assert_true(r == 0 || r == -EAGAIN);
	}
	assert_true(zmq_socket_pending(pair.router)); /* silent, and yet */
	assert_takes(pair.router, "second");
	pair_close(&pair);
}

/* Garbage ---------------------------------------------------------------------------------------------- */

static void test_messages_of_other_than_one_part_are_skipped_and_counted(void **state)
{
	(void)state;
	struct pair pair;
	pair_open(&pair);
	int fd = raw_connect(pair.port);
	assert_true(raw_handshake(fd, NULL, 0));
	assert_true(raw_frame(fd, 0, "good", 4));
	for (unsigned n = 0; n < 200; n++) { /* more than one receive skips */
		for (unsigned part = 0; part < n % 5 + 1; part++)
			assert_true(raw_frame(fd, ZMTP_MORE, "part", n % 3));
		assert_true(raw_frame(fd, 0, "end", 3));
	}
	assert_true(raw_frame(fd, 0, "still good", 10));
	assert_takes(pair.router, "good");
	assert_takes(pair.router, "still good");
	assert_int_equal(zmq_socket_bad_messages(pair.router), 200);
	close(fd);
	pair_close(&pair);
}

static void test_a_dealer_skips_and_counts_them_too(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_context *context;
	struct zmq_socket *dealer;
	char endpoint[64];
	pair_open(&pair);
	/* A hand-made server for one DEALER. */
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 5), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(zmq_context_new(&context), 0);
	assert_int_equal(zmq_socket_open(context, &dealer_options, endpoint, &dealer), 0);
	int fd = accept(listener, NULL, NULL);
	assert_true(raw_handshake(fd, NULL, 0));
	assert_true(raw_frame(fd, ZMTP_MORE, "one", 3));
	assert_true(raw_frame(fd, 0, "two", 3));
	assert_true(raw_frame(fd, 0, "good", 4));
	assert_takes(dealer, "good");
	assert_int_equal(zmq_socket_bad_messages(dealer), 1);
	close(fd);
	close(listener);
	zmq_socket_free(dealer);
	zmq_context_free(context);
	pair_close(&pair);
}

static void test_an_identity_too_long_to_answer_is_skipped_and_counted(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	char identity[255];
	memset(identity, 'i', sizeof(identity));
	pair_open(&pair);
	int longest = raw_connect(pair.port), too_long = raw_connect(pair.port), huge = raw_connect(pair.port);
	assert_true(raw_handshake(too_long, identity, ZMQ_IDENTITY_MAX + 1));
	assert_true(raw_frame(too_long, 0, "refused", 7));
	assert_true(raw_handshake(huge, identity, sizeof(identity)));
	assert_true(raw_frame(huge, 0, "refused", 7));
	int64_t deadline = now_ms() + DEADLINE_MS;
	while (zmq_socket_bad_messages(pair.router) < 2 && now_ms() < deadline) {
		wait_readable(zmq_socket_fd(pair.router), 100);
		assert_int_equal(zmq_socket_receive(pair.router, &from, &data, &len), 0);
	}
	assert_int_equal(zmq_socket_bad_messages(pair.router), 2);
	assert_true(raw_handshake(longest, identity, ZMQ_IDENTITY_MAX));
	assert_true(raw_frame(longest, 0, "taken", 5));
	assert_true(take(pair.router, &from, &data, &len));
	assert_int_equal(from.size, ZMQ_IDENTITY_MAX);
	assert_memory_equal(from.bytes, identity, ZMQ_IDENTITY_MAX);
	close(longest);
	close(too_long);
	close(huge);
	pair_close(&pair);
}

static void test_a_frame_over_the_limit_costs_its_sender_the_connection(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	pair_open(&pair);
	uint8_t *frame = calloc(1, FRAME_SIZE_MAX + 1);
	assert_non_null(frame);
	assert_int_equal(zmq_socket_send(pair.dealer, NULL, frame, FRAME_SIZE_MAX), 0);
	assert_true(take(pair.router, &from, &data, &len));
	assert_int_equal(len, FRAME_SIZE_MAX);
	assert_int_equal(zmq_socket_send(pair.dealer, NULL, frame, FRAME_SIZE_MAX + 1), 0);
	assert_int_equal(wait_link(pair.dealer), ZMQ_LINK_DOWN);
	assert_int_equal(wait_link(pair.dealer), ZMQ_LINK_UP);
	assert_int_equal(send_text(pair.dealer, NULL, "after"), 0);
	assert_takes(pair.router, "after");
	free(frame);
	pair_close(&pair);
}

static void test_an_empty_frame_is_a_frame(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	pair_open(&pair);
	assert_int_equal(zmq_socket_send(pair.dealer, NULL, NULL, 0), 0);
	assert_true(take(pair.router, &from, &data, &len));
	assert_int_equal(len, 0);
	pair_close(&pair);
}

/* Hostile bytes ---------------------------------------------------------------------------------------- */

static void say_and_leave(uint16_t port, const void *data, size_t len)
{
	int fd = raw_connect(port);
	assert_true(fd >= 0);
	(void)raw_write(fd, data, len); /* it may be thrown out before it said all */
	close(fd);
}

/* Frames still arrive; some of the noise may have been one, as ZMTP 1 begins without any greeting. */
static void assert_unharmed(struct pair *pair)
{
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	assert_int_equal(send_text(pair->dealer, NULL, "unharmed"), 0);
	do
		assert_true(take(pair->router, &from, &data, &len));
	while (len != 8 || memcmp(data, "unharmed", 8) != 0);
}

static void test_raw_bytes_on_the_port_hurt_nobody(void **state)
{
	(void)state;
	struct pair pair;
	uint8_t noise[300];
	uint64_t seed = 99;
	pair_open(&pair);
	say_and_leave(pair.port, "", 0);
	say_and_leave(pair.port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	for (unsigned n = 0; n < 300; n++) {
		for (unsigned k = 0; k < sizeof(noise); k++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			noise[k] = (uint8_t)(seed >> 33);
		}
		if (n % 3 > 0) /* get past the first look at the greeting */
			memcpy(noise, "\377\0\0\0\0\0\0\0\1\177\3\0NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 33);
		if (n % 3 > 1) /* and past the greeting */
			memset(noise + 33, 0, 31);
		say_and_leave(pair.port, noise, 1 + (size_t)(seed >> 40) % sizeof(noise));
	}
	assert_unharmed(&pair);
	pair_close(&pair);
}

static void test_noise_behind_a_good_handshake_hurts_nobody(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	uint8_t noise[200];
	uint64_t seed = 5;
	pair_open(&pair);
	for (unsigned n = 0; n < 200; n++) {
		int fd = raw_connect(pair.port);
		assert_true(raw_handshake(fd, NULL, 0));
		for (unsigned k = 0; k < sizeof(noise); k++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			noise[k] = (uint8_t)(seed >> 33);
		}
		noise[0] &= 7; /* a flags byte that is let in */
		(void)raw_write(fd, noise, sizeof(noise));
		close(fd);
		while (zmq_socket_receive(pair.router, &from, &data, &len) == 1)
			assert_true(len <= sizeof(noise));
	}
	assert_unharmed(&pair);
	pair_close(&pair);
}

/* libzmq 4.3.4 aborts for a peer of ZMTP 1 that comes in the moment of closing, unless such peers are kept out. */
static void test_old_peers_at_the_moment_of_closing_hurt_nobody(void **state)
{
	(void)state;
	uint16_t port = free_port(AF_INET);
	char endpoint[64];
	snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", port);
	for (unsigned n = 0; n < 20; n++) {
		struct zmq_context *context;
		struct zmq_socket *router;
		struct zmq_identity from;
		const uint8_t *data;
		size_t len;
		assert_int_equal(zmq_context_new(&context), 0);
		assert_int_equal(zmq_socket_open(context, &router_options, endpoint, &router), 0);
		for (unsigned k = 0; k < 150; k++)
			say_and_leave(port, "\2\0x\2\0y\2\0z", 9);
		assert_int_equal(zmq_socket_receive(router, &from, &data, &len), 0); /* nothing gets in */
		zmq_socket_free(router);
		zmq_context_free(context);
	}
}

static void test_an_announced_length_without_end_is_refused(void **state)
{
	(void)state;
	static const uint8_t lengths[][9] = {
		{ZMTP_LONG, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		{ZMTP_LONG, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},
		{ZMTP_LONG, 0, 0, 0, 1, 0, 0, 0, 0},
		{ZMTP_LONG, 0, 0, 0, 0, 0, 1, 0x86, 0xA1}, /* FRAME_SIZE_MAX + 1 */
	};
	struct pair pair;
	pair_open(&pair);
	for (unsigned k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
		int fd = raw_connect(pair.port);
		assert_true(raw_handshake(fd, NULL, 0));
		assert_true(raw_write(fd, lengths[k], sizeof(lengths[k])));
		assert_true(raw_is_closed(fd));
		close(fd);
	}
	assert_unharmed(&pair);
	pair_close(&pair);
}

/* Sending ---------------------------------------------------------------------------------------------- */

static void test_a_full_queue_refuses_at_once_and_recovers(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_socket_options small = dealer_options;
	struct zmq_socket *dealer, *router;
	struct zmq_identity from;
	const uint8_t *data;
	char endpoint[64];
	size_t len;
	uint8_t frame[FRAME_SIZE_MAX] = {0};
	pair_open(&pair);
	small.send_queue_frames = 10;
	struct zmq_socket_options small_router = router_options;
	small_router.receive_queue_frames = 10;
	snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", free_port(AF_INET));
	assert_int_equal(zmq_socket_open(pair.context, &small_router, endpoint, &router), 0);
	assert_int_equal(zmq_socket_open(pair.context, &small, endpoint, &dealer), 0);
	assert_int_equal(wait_link(dealer), ZMQ_LINK_UP);
	/* What the two queues and the kernel hold is not ours to say, but it ends. */
	unsigned accepted = 0;
	int64_t began = now_ms();
	unsigned refused_in_a_row = 0;
	while (refused_in_a_row < 1000) {
		int r = zmq_socket_send(dealer, NULL, frame, sizeof(frame));
		assert_true(r == 0 || r == -EAGAIN);
		refused_in_a_row = r == 0 ? 0 : refused_in_a_row + 1;
		accepted += r == 0;
		assert_true(accepted < 1000 && now_ms() < began + DEADLINE_MS);
	}
	assert_true(accepted >= 10);
	for (unsigned k = 0; k < accepted; k++)
		assert_true(take(router, &from, &data, &len));
	int64_t deadline = now_ms() + DEADLINE_MS;
	while (send_text(dealer, NULL, "room again") != 0)
		assert_true(now_ms() < deadline);
	assert_takes(router, "room again");
	zmq_socket_free(dealer);
	zmq_socket_free(router);
	pair_close(&pair);
}

/* libzmq looks for freed places only now and then; a refused send must have looked. One frame on its way at a time
 * through a queue of one never meets a full queue, however fast. */
static void test_a_queue_of_one_never_refuses_what_it_has_room_for(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_socket_options one = dealer_options;
	struct zmq_socket *dealer;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	pair_open(&pair);
	one.send_queue_frames = 1;
	one.immediate = true;
	assert_int_equal(zmq_socket_open(pair.context, &one, pair.endpoint, &dealer), 0);
	assert_int_equal(wait_link(dealer), ZMQ_LINK_UP);
	for (unsigned n = 0; n < 2000; n++) {
		assert_int_equal(send_text(dealer, NULL, "ping"), 0);
		assert_true(take(pair.router, &from, &data, &len));
	}
	zmq_socket_free(dealer);
	pair_close(&pair);
}

static void test_nobody_there_means_no_queue_when_immediate(void **state)
{
	(void)state;
	struct zmq_context *context;
	struct zmq_socket *dealer;
	struct zmq_socket_options immediate = dealer_options;
	char endpoint[64];
	immediate.immediate = true;
	snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", free_port(AF_INET));
	assert_int_equal(zmq_context_new(&context), 0);
	assert_int_equal(zmq_socket_open(context, &immediate, endpoint, &dealer), 0);
	for (unsigned n = 0; n < 1000; n++)
		assert_int_equal(send_text(dealer, NULL, "lost"), -EAGAIN);
	assert_int_equal(zmq_socket_link_event(dealer), ZMQ_LINK_NONE);
	zmq_socket_free(dealer);
	zmq_context_free(context);
}

static void test_an_answer_reaches_the_asker_or_fails_with_unreachable(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_identity from, stranger = {.size = 5, .bytes = {9, 9, 9, 9, 9}};
	const uint8_t *data;
	size_t len;
	pair_open(&pair);
	assert_int_equal(send_text(pair.dealer, NULL, "question"), 0);
	assert_true(take(pair.router, &from, &data, &len));
	assert_int_equal(send_text(pair.router, &from, "answer"), 0);
	assert_takes(pair.dealer, "answer");
	assert_int_equal(send_text(pair.router, &stranger, "answer"), -EHOSTUNREACH);
	struct zmq_identity nobody = {0};
	assert_true(send_text(pair.router, &nobody, "answer") < 0);

	pair.dealer = zmq_socket_free(pair.dealer);
	int64_t deadline = now_ms() + DEADLINE_MS;
	int r;
	while ((r = send_text(pair.router, &from, "too late")) != -EHOSTUNREACH) {
		assert_true(r == 0 || r == -EAGAIN); /* as long as the connection is not known to be gone */
		assert_true(now_ms() < deadline);
	}
	pair_close(&pair);
}

static void test_prepared_buffers_are_sent_dropped_and_moved(void **state)
{
	(void)state;
	struct pair pair;
	pair_open(&pair);
	memcpy(zmq_socket_prepare(pair.dealer, 5), "first", 5);
	memcpy(zmq_socket_prepare(pair.dealer, 6), "second", 6);
	assert_int_equal(zmq_socket_send_prepared(pair.dealer, NULL), 0);
	assert_takes(pair.router, "second");
	memcpy(zmq_socket_prepare(pair.dealer, 7), "dropped", 7);
	memcpy(zmq_socket_prepare(pair.router, 5), "moved", 5);
	zmq_socket_move_prepared(pair.router, pair.dealer);
	assert_int_equal(zmq_socket_send_prepared(pair.dealer, NULL), 0);
	assert_takes(pair.router, "moved");
	assert_non_null(zmq_socket_prepare(pair.router, 100)); /* freed with the socket */
	pair_close(&pair);
}

/* Connections ------------------------------------------------------------------------------------------ */

static void test_links_go_down_and_up_with_the_other_side(void **state)
{
	(void)state;
	struct pair pair;
	pair_open(&pair);
	for (unsigned n = 0; n < 3; n++) {
		pair.router = zmq_socket_free(pair.router);
		assert_int_equal(wait_link(pair.dealer), ZMQ_LINK_DOWN);
		assert_false(zmq_socket_pending(pair.dealer));
		int64_t deadline = now_ms() + DEADLINE_MS; /* libzmq closes in the background */
		while (zmq_socket_open(pair.context, &router_options, pair.endpoint, &pair.router) != 0)
			assert_true(now_ms() < deadline);
		assert_int_equal(wait_link(pair.dealer), ZMQ_LINK_UP);
		assert_int_equal(send_text(pair.dealer, NULL, "hello again"), 0);
		assert_takes(pair.router, "hello again");
	}
	pair_close(&pair);
}

static void test_something_else_on_the_port_is_no_link(void **state)
{
	(void)state;
	struct zmq_context *context;
	struct zmq_socket *dealer;
	char endpoint[64];
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 5), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(zmq_context_new(&context), 0);
	assert_int_equal(zmq_socket_open(context, &dealer_options, endpoint, &dealer), 0);
	for (unsigned n = 0; n < 4; n++) { /* it comes again and again */
		int fd = accept(listener, NULL, NULL);
		assert_true(fd >= 0);
		(void)raw_write(fd, "SSH-2.0-whatever\r\n", n % 2 == 0 ? 18 : 0);
		close(fd);
		assert_int_equal(zmq_socket_link_event(dealer), ZMQ_LINK_NONE);
	}
	close(listener);
	zmq_socket_free(dealer);
	zmq_context_free(context);
}

/* libzmq gives a connection up for ever when the other side breaks the protocol. */
static void test_a_link_recovers_from_a_stranger_on_the_port(void **state)
{
	(void)state;
	static const char nonsense[] = "\377\0\0\0\0\0\0\0\1\177\3\1NONSENSE\0\0\0\0\0\0\0\0\0\0\0\0";
	struct zmq_socket_options immediate = dealer_options;
	immediate.immediate = true;
	struct pair pair;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(listener, 5), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	snprintf(pair.endpoint, sizeof(pair.endpoint), "tcp://127.0.0.1:%u", ntohs(address.sin_port));
	assert_int_equal(zmq_context_new(&pair.context), 0);
	assert_int_equal(zmq_socket_open(pair.context, &immediate, pair.endpoint, &pair.dealer), 0);
	int fd = accept(listener, NULL, NULL);
	assert_true(raw_write(fd, nonsense, sizeof(nonsense) - 1));
	char greeting[64];
	(void)recv(fd, greeting, sizeof(greeting), MSG_WAITALL);
	uint8_t rest[32] = {0};
	(void)raw_write(fd, rest, sizeof(rest));
	assert_true(raw_is_closed(fd));
	close(fd);
	close(listener);
	assert_int_equal(zmq_socket_open(pair.context, &router_options, pair.endpoint, &pair.router), 0);
	int64_t deadline = now_ms() + DEADLINE_MS;
	while (zmq_socket_link_event(pair.dealer) != ZMQ_LINK_UP) {
		assert_true(now_ms() < deadline);
		(void)send_text(pair.dealer, NULL, "knock");
		wait_readable(zmq_socket_monitor_fd(pair.dealer), 20);
	}
	assert_int_equal(send_text(pair.dealer, NULL, "knock"), 0);
	assert_takes(pair.router, "knock");
	pair_close(&pair);
}

static void test_the_descriptors_rest_when_there_is_nothing(void **state)
{
	(void)state;
	struct pair pair;
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	pair_open(&pair);
	assert_int_equal(send_text(pair.dealer, NULL, "one"), 0);
	assert_takes(pair.router, "one");
	assert_int_equal(zmq_socket_receive(pair.router, &from, &data, &len), 0);
	assert_int_equal(zmq_socket_link_event(pair.dealer), ZMQ_LINK_NONE);
	assert_false(zmq_socket_pending(pair.router));
	assert_false(zmq_socket_pending(pair.dealer));
	assert_false(wait_readable(zmq_socket_fd(pair.router), 20));
	assert_false(wait_readable(zmq_socket_monitor_fd(pair.dealer), 20));
	assert_int_equal(zmq_socket_monitor_fd(pair.router), -1);
	pair_close(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_burst_arrives_whole_when_every_wake_up_drains),
		cmocka_unit_test(test_a_burst_arrives_whole_when_pending_is_asked_before_sleeping),
		cmocka_unit_test(test_a_send_may_take_the_signal_but_not_the_message),
		cmocka_unit_test(test_messages_of_other_than_one_part_are_skipped_and_counted),
		cmocka_unit_test(test_a_dealer_skips_and_counts_them_too),
		cmocka_unit_test(test_an_identity_too_long_to_answer_is_skipped_and_counted),
		cmocka_unit_test(test_a_frame_over_the_limit_costs_its_sender_the_connection),
		cmocka_unit_test(test_an_empty_frame_is_a_frame),
		cmocka_unit_test(test_raw_bytes_on_the_port_hurt_nobody),
		cmocka_unit_test(test_noise_behind_a_good_handshake_hurts_nobody),
		cmocka_unit_test(test_old_peers_at_the_moment_of_closing_hurt_nobody),
		cmocka_unit_test(test_an_announced_length_without_end_is_refused),
		cmocka_unit_test(test_a_full_queue_refuses_at_once_and_recovers),
		cmocka_unit_test(test_a_queue_of_one_never_refuses_what_it_has_room_for),
		cmocka_unit_test(test_nobody_there_means_no_queue_when_immediate),
		cmocka_unit_test(test_an_answer_reaches_the_asker_or_fails_with_unreachable),
		cmocka_unit_test(test_prepared_buffers_are_sent_dropped_and_moved),
		cmocka_unit_test(test_links_go_down_and_up_with_the_other_side),
		cmocka_unit_test(test_something_else_on_the_port_is_no_link),
		cmocka_unit_test(test_a_link_recovers_from_a_stranger_on_the_port),
		cmocka_unit_test(test_the_descriptors_rest_when_there_is_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
